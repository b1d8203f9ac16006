"""Is the gate neither loose nor tight by luck? Measured errors beside predicted ones, over many regimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared_tests.cases.case import Case, Config, Trial, draw
from shared_tests.harness.asking import ask, ask_gradients
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.scoring import Additive
from shared_tests.harness.subject import Subject, claims, in_words, offers
from shared_tests.harness.truth import Oracle, Truth

QUANTITIES = ("output", "attention weights", "input gradients", "parameter gradients")


def _layer(hidden: int, heads: int, bias: bool = True) -> Config:
    """A layer whose inputs are about as wide as it is, each of its own width."""
    return Config(hidden + 1, hidden + 3, hidden + 2, hidden, heads, bias)


def _additive(width: int) -> Config:
    return replace(_layer(24, 3), scoring=Additive(width))


REGIMES = {
    # Sizes, from one number to hundreds: hidden / heads is head_dim, 1 to 128.
    **{
        f"hidden {hidden}, heads {heads}": Case(_layer(hidden, heads))
        for hidden, heads in (
            *((1, 1), (2, 1), (2, 2), (6, 2), (7, 7), (10, 5), (16, 1), (24, 3), (48, 4), (64, 1), (64, 64)),
            *((96, 2), (100, 5), (128, 1), (192, 3), (256, 2), (384, 6), (512, 4)),
        )
    },
    # Lengths, with masks.
    **{
        f"queries {queries}, keys {keys}": Case(_layer(16, 2), queries=queries, keys=keys, valid_lens=(keys - 1, 1))
        for queries, keys in ((1, 2), (2, 512), (64, 64), (512, 3), (128, 256))
    },
    "long mask": Case(_layer(16, 2), queries=3, keys=512, valid_lens=(500, 2)),
    "half masked": Case(_layer(24, 3), queries=40, keys=200, valid_lens=(100, 100)),
    "batch of 32": Case(_layer(20, 4), batch=32, valid_lens=tuple(range(-1, 31))),
    # Scales of the inputs: nearly uniform weights when tiny, nearly one-hot when large.
    **{
        f"spread {spread:g}, hidden {hidden}": Case(_layer(hidden, 2), queries=9, keys=13, spread=spread)
        for spread in (1e-3, 1e-2, 0.1, 0.3, 3.0, 5.0, 10.0, 30.0)
        for hidden in (8, 96)
    },
    # Numbers with a common mean, large and small beside their spread, and weights that are large.
    **{
        f"mean {mean:g}, spread {spread:g}": Case(_layer(24, 3), queries=9, keys=13, mean=mean, spread=spread)
        for mean, spread in ((1.0, 1.0), (10.0, 1.0), (30.0, 0.1), (0.1, 0.01))
    },
    **{f"gain {gain:g}": Case(_layer(24, 3), queries=9, keys=13, gain=gain) for gain in (0.1, 2.0, 4.0)},
    # Additive scoring.
    **{
        f"additive {width}, spread {spread:g}": Case(_additive(width), 2, 9, 13, (5, 11), spread)
        for width, spread in ((1, 1.0), (8, 0.1), (31, 1.0), (64, 3.0), (128, 1.0))
    },
}


def of_dtype(dtype: str) -> dict[str, Case]:
    """The regimes for a dtype: in half precision only where noise is small, as a first-order prediction assumes."""
    if dtype in ("float64", "float32"):
        return REGIMES
    return {name: c for name, c in REGIMES.items() if c.spread <= 1 and c.mean <= 1 and c.gain <= 1}


@dataclass(frozen=True)
class Calibration:
    """|error| / sigma of one subject, dtype and quantity: median and worst of all elements, and where it is worst."""

    subject: str
    dtype: str
    quantity: str
    median: float
    worst: float
    regime: str
    elements: int


def calibrate(
    subjects: Sequence[Subject], dtypes: Sequence[str], advance: Callable[[str], None] = lambda _: None
) -> list[Calibration]:
    """Measures every subject in every regime. Bias gradients in half precision are known differences, left out."""
    ratios: dict[tuple[str, str, str], dict[str, Array]] = {}
    for dtype in dtypes:
        for name, case in of_dtype(dtype).items():
            advance(f"{name}, {dtype}")
            able, trial = [s for s in subjects if claims(s, case, dtype)], draw(name, case, dtype)
            truth = Oracle().of(trial, gradients=any(offers(subject, "gradients") for subject in able))
            for subject in able:
                try:
                    measured = list(_measure(subject, trial, truth))
                except (Exception, SystemExit) as error:  # a port may fail in any way
                    raise ValueError(f"{subject.name}: expected an answer to {name}, got {in_words(error)}") from error
                for quantity, values in measured:
                    of_regime = ratios.setdefault((subject.name, dtype, quantity), {})
                    of_regime[name] = np.append(of_regime.get(name, np.empty(0)), values)
    return [_summary(*key, of_regime) for key, of_regime in ratios.items()]


def _measure(subject: Subject, trial: Trial, truth: Truth) -> Iterator[tuple[str, Array]]:
    model = subject.build(trial.config, trial.parameters, trial.dtype)
    answer = ask(subject, model, trial)
    yield "output", _ratios(answer.output, truth.stages["output"])
    yield "attention weights", _ratios(answer.attention_weights, truth.stages["attention_weights"])
    if offers(subject, "gradients"):
        gradients = ask_gradients(subject, model, trial)
        for what, expected in truth.gradients.items():
            if what.endswith("bias") and trial.dtype in ("bfloat16", "float16"):
                continue
            kind = "parameter gradients" if what in trial.parameters else "input gradients"
            yield kind, _ratios(gradients[what], expected)


def _ratios(actual: Array, truth: Expected) -> Array:
    noisy = truth.sigma > 0
    return (np.abs(actual - truth.value)[noisy] / truth.sigma[noisy]).astype(np.float64)


def _summary(subject: str, dtype: str, quantity: str, of_regime: Mapping[str, Array]) -> Calibration:
    everything = np.concatenate(list(of_regime.values()))
    worst = {name: float(values.max()) for name, values in of_regime.items() if values.size}
    regime = max(worst, key=lambda name: worst[name])
    return Calibration(subject, dtype, quantity, float(np.median(everything)), worst[regime], regime, everything.size)
