"""Variants of the reference: the layer with one or two faults, free of error, and the noise of a port that has them.

The right layer is the oracle, with the judge's own sigma. A variant is the catalogue's layer computed free of error,
and its sigma is sampled: DRAWS runs in which every operation errs at random by what docs/rounding.md says of it, and
sigma is their root mean square distance from the value. So a variant whose scores are larger, or whose softmax is
float32, has the noise of a port that does just that, from the same one-line change; nothing is scaled by hand. With 24
draws a sigma is good to 15 %, and the gate is 8.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Exact
from shared_tests.faults.backward import gradients
from shared_tests.faults.fault import Fault
from shared_tests.faults.layer import Layer
from shared_tests.faults.probes import Probe
from shared_tests.harness import oracle
from shared_tests.harness.rounding import FORMATS, GATE, Array

DRAWS = 24
HOPELESS = 2.0**16
"""A deviation of so many roundings of the greatest element is no noise: the sampling is spared."""
GRADIENT = "gradient of "
"""Begins the names of gradients among answers."""
COARSE = 16.0
"""A loss of precision moves nothing by more than so many of its roundings, of the greatest element, for each unit that
the greatest score has: the exponential makes of a score's error that times the score."""
Faults = tuple[Fault, ...]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Fit:
    """How well a variant explains numbers: the greatest deviation, in its sigma, and how wide that sigma is."""

    worst: float
    width: float
    """Mean logarithm of sigma over all elements compared."""


def fit(faults: Faults, probe: Probe, answer: Arrays) -> Fit | None:
    """How the variant explains what a port answered: an array each by name; None if it does not, to within the gate."""
    if rough_width(faults, probe, answer) is None:
        return None
    gradient = of_gradients(answer)
    value, sigma = _value(faults, probe, gradient), _sigma(faults, probe, gradient, DRAWS)
    assert value is not None
    fits = [_compared(answer[name], value[name], sigma[name]) for name in answer]
    worst = max((one.worst for one in fits), default=0.0)
    return Fit(worst, float(np.mean([one.width for one in fits]))) if worst <= GATE else None


def rough_width(faults: Faults, probe: Probe, answer: Arrays) -> float | None:
    """About the width of `fit`, from two draws; None where they show that there is no fit. Most variants end here."""
    gradient = of_gradients(answer)
    if not _plausible(faults, probe, answer):
        return None
    value, sigma = _value(faults, probe, gradient), _sigma(faults, probe, gradient, 2)
    if value is None or not _near(value, answer, HOPELESS * _noise(faults, probe) if faults else np.inf, faults):
        return None
    if faults and not all(_typical(answer[name], value[name], sigma[name]) for name in answer):
        return None
    return float(np.mean([_compared(answer[name], value[name], sigma[name]).width for name in answer]))


def runs(faults: Faults, probe: Probe) -> bool:
    """Whether the variant can be asked this at all: some faults fit no widths but equal ones."""
    return _value(faults, probe, False) is not None


def truth(probe: Probe, faults: Faults = ()) -> Arrays:
    """What the layer with these faults owes, by "output" and "attention_weights" and every other stage."""
    value = _value(faults, probe, False)
    assert value is not None
    return value


def gradients_of(probe: Probe, faults: Faults = ()) -> Arrays:
    """The gradients that the layer with these faults owes, each by `GRADIENT` and its name."""
    value = _value(faults, probe, True)
    assert value is not None
    return value


def of_gradients(names: Iterable[str]) -> bool:
    """Whether these are names of gradients, not of stages."""
    return next(iter(names), "").startswith(GRADIENT)


@lru_cache(1024)
def _exact(probe: Probe) -> tuple[Arrays, Arrays]:
    stages = oracle.forward(probe.trial)
    return {n: x.value for n, x in stages.items()}, {n: x.sigma for n, x in stages.items()}


@lru_cache(256)
def _exact_gradients(probe: Probe) -> tuple[Arrays, Arrays]:
    found = oracle.backward(probe.trial, oracle.forward(probe.trial))
    return {GRADIENT + n: x.value for n, x in found.items()}, {GRADIENT + n: x.sigma for n, x in found.items()}


def _plausible(faults: Faults, probe: Probe, answer: Arrays) -> bool:
    """Whether the answer is near enough for the variant to be computed with care: what is asked of most is this alone.

    Without its losses of precision a variant has to be about right; and with them in float64.
    """
    exact, names = tuple(fault for fault in faults if not fault.unit), tuple(answer)
    if unit := max((fault.unit for fault in faults), default=0.0):
        value = _quick(exact, probe, names)
        if value is None or not _about(value, answer, COARSE * unit * (1 + _greatest_score(probe))):
            return False
    if not faults:
        return True
    value = _quick(faults, probe, names)
    return value is not None and _near(value, answer, HOPELESS * max(_noise(faults, probe), 2.0**-49), faults)


@lru_cache(1024)
def _greatest_score(probe: Probe) -> float:
    return float(np.abs(truth(probe)["scores"]).max(initial=0))


def _about(value: Arrays, answer: Arrays, share: float) -> bool:
    """Whether every array has the variant's shape, and no element that is a number in both is far from it."""
    scale = _greatest(value, answer)
    for name, actual in answer.items():
        expected = value.get(name)
        if expected is None or expected.shape != actual.shape:
            return False
        error = np.abs(actual - expected)
        if error[np.isfinite(error)].max(initial=0) > share * scale:
            return False
    return True


def _greatest(value: Arrays, answer: Arrays) -> float:
    """The greatest finite element of what was answered."""
    return max((float(np.abs(x[np.isfinite(x)]).max(initial=0)) for n, x in value.items() if n in answer), default=0.0)


@lru_cache(16384)
def _quick(faults: Faults, probe: Probe, names: tuple[str, ...]) -> Arrays | None:
    """What of the variant has these names, in float64."""
    with np.errstate(all="ignore"):
        try:
            found = _run(faults, probe, of_gradients(names), number=np.float64)
        except (ValueError, IndexError):  # shapes that do not fit
            return None
    return {name: found[name] for name in names if name in found}


def _run(
    faults: Faults,
    probe: Probe,
    gradient: bool,
    random: np.random.Generator | None = None,
    number: type[np.floating[Any]] = np.longdouble,
) -> Arrays:
    trial = probe.trial
    arithmetic = Exact(trial.dtype, random, number)
    layer = Layer(trial.config, trial.parameters, arithmetic, [fault.changes for fault in faults])
    layer.keep = trial.keep
    output, weights = layer.forward(*trial.inputs)
    if gradient:
        return {GRADIENT + name: array for name, array in gradients(layer, trial.cotangent).items()}
    return layer.stages | {"output": output, "attention_weights": weights}


@lru_cache(1024)
def _value(faults: Faults, probe: Probe, gradient: bool) -> Arrays | None:
    if not faults:
        return (_exact_gradients if gradient else _exact)(probe)[0]
    with np.errstate(all="ignore"):
        try:
            return _run(faults, probe, gradient)
        except (ValueError, IndexError):  # shapes that do not fit
            return None


@lru_cache(2048)
def _sigma(faults: Faults, probe: Probe, gradient: bool, draws: int) -> Arrays:
    if not faults:
        return (_exact_gradients if gradient else _exact)(probe)[1]
    value, random = _value(faults, probe, gradient), np.random.default_rng(0)
    assert value is not None
    squares = {name: np.zeros(array.shape) for name, array in value.items()}
    with np.errstate(all="ignore"):
        for _ in range(draws):
            draw = _run(faults, probe, gradient, random)
            for name, array in value.items():
                squares[name] += np.nan_to_num((draw[name] - array) ** 2, posinf=np.inf).astype(np.float64)
    return {name: np.sqrt(array / draws) for name, array in squares.items()}


def _noise(faults: Faults, probe: Probe) -> float:
    """The unit roundoff of what is computed least well, and not the same way in every run."""
    return max([FORMATS[probe.trial.dtype].unit, *(fault.unit for fault in faults if fault.noisy)])


def _near(value: Arrays, answer: Arrays, share: float, faults: Faults = ()) -> bool:
    """Whether every array has the variant's shape, NaN where it has, and no element is far from it.

    share: how far, as a share of the greatest element. Of faults that round in a way of their own that is to be so of
    the median element alone: noise turns some of their roundings.
    """
    turned = any(fault.unit and not fault.noisy for fault in faults)
    scale = _greatest(value, answer)
    for name, actual in answer.items():
        expected = value.get(name)
        if expected is None or expected.shape != actual.shape:
            return False
        finite = np.isfinite(expected)
        if not (finite.all() and np.isfinite(actual).all()) and not np.array_equal(finite, np.isfinite(actual)):
            return False
        error = np.abs(actual[finite] - expected[finite])
        if scale and error.size and (np.median(error) if turned else error.max()) > share * scale:
            return False
    return True


def _typical(actual: Array, expected: Array, noise: Array) -> bool:
    """Whether the median element errs about as much as in two draws, among elements that err in them."""
    noisy = np.isfinite(expected) & (noise > 0)
    ratio = np.abs(actual[noisy] - expected[noisy]) / noise[noisy]
    return not ratio.size or bool(np.median(ratio) <= GATE / 2)


def _compared(actual: Array, expected: Array, sigma: Array) -> Fit:
    finite = np.isfinite(expected)
    error, sigma = np.abs(actual[finite] - expected[finite]), sigma[finite]
    deviation = np.divide(error, sigma, out=np.where(error == 0, 0.0, np.inf), where=sigma > 0)
    floor = np.finfo(np.float64).eps * np.abs(expected[finite]).max(initial=0) / HOPELESS
    width = float(np.log(np.maximum(sigma, floor + np.finfo(np.float64).tiny)).mean()) if sigma.size else 0.0
    return Fit(float(deviation.max(initial=0)), width)
