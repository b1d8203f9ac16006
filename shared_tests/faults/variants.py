"""Variants of the reference: the layer with one or two faults, in extended precision, and the noise of a port that has them.

The right layer is the oracle, with the judge's own sigma. A variant is the catalogue's layer computed free of error,
and its sigma is sampled: DRAWS runs in which every operation errs at random by what docs/rounding.md says of it, and
sigma is their root mean square distance from the value. So a variant whose scores are larger, or whose softmax is
float32, has the noise of a port that does just that, from the same one-line change; nothing is scaled by hand. With 24
draws a sigma is good to 15 %, and the gate is 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
    gradient = "queries" in answer
    value = _value(faults, probe, gradient)
    if value is None or not _near(value, answer, _unit(faults, probe) if faults else np.inf):
        return None
    if faults and not _near_noise(value, answer, _sigma(faults, probe, gradient, 2)):
        return None
    sigma = _sigma(faults, probe, gradient, DRAWS)
    fits = [_compared(answer[name], value[name], sigma[name]) for name in answer]
    worst = max((one.worst for one in fits), default=0.0)
    return Fit(worst, float(np.mean([one.width for one in fits]))) if worst <= GATE else None


def runs(faults: Faults, probe: Probe) -> bool:
    """Whether the variant can be asked this at all: some faults fit no widths but equal ones."""
    return _value(faults, probe, False) is not None


def truth(probe: Probe, faults: Faults = ()) -> Arrays:
    """What the layer with these faults owes, by "output" and "attention_weights" and every other stage."""
    value = _value(faults, probe, False)
    assert value is not None
    return value


def gradients_of(probe: Probe) -> Arrays:
    """The gradients that the right layer owes, by name."""
    return _exact_gradients(probe)[0]


@lru_cache(1024)
def _exact(probe: Probe) -> tuple[Arrays, Arrays]:
    stages = oracle.forward(probe.trial)
    return {n: x.value for n, x in stages.items()}, {n: x.sigma for n, x in stages.items()}


@lru_cache(256)
def _exact_gradients(probe: Probe) -> tuple[Arrays, Arrays]:
    found = oracle.backward(probe.trial, oracle.forward(probe.trial))
    return {n: x.value for n, x in found.items()}, {n: x.sigma for n, x in found.items()}


def _run(faults: Faults, probe: Probe, gradient: bool, random: np.random.Generator | None = None) -> Arrays:
    trial = probe.trial
    layer = Layer(trial.config, trial.parameters, Exact(trial.dtype, random), [fault.changes for fault in faults])
    layer.keep = trial.keep
    output, weights = layer.forward(*trial.inputs)
    if gradient:
        return gradients(layer, trial.cotangent)
    return layer.stages | {"output": output, "attention_weights": weights}


@lru_cache(8192)
def _value(faults: Faults, probe: Probe, gradient: bool) -> Arrays | None:
    if not faults:
        return (_exact_gradients if gradient else _exact)(probe)[0]
    with np.errstate(all="ignore"):
        try:
            return _run(faults, probe, gradient)
        except (ValueError, IndexError):  # shapes that do not fit
            return None


@lru_cache(8192)
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


def _unit(faults: Faults, probe: Probe) -> float:
    return max([FORMATS[probe.trial.dtype].unit, *(fault.unit for fault in faults)])


def _near(value: Arrays, answer: Arrays, unit: float) -> bool:
    """Whether every array has the variant's shape, NaN where it has, and no element is hopelessly far from it."""
    scale = max((np.abs(x[np.isfinite(x)]).max(initial=0) for n, x in value.items() if n in answer), default=0.0)
    for name, actual in answer.items():
        expected = value.get(name)
        if expected is None or expected.shape != actual.shape:
            return False
        finite = np.isfinite(expected)
        if not np.array_equal(finite, np.isfinite(actual)):
            return False
        if scale and np.abs(actual[finite] - expected[finite]).max(initial=0) > HOPELESS * unit * scale:
            return False
    return True


def _near_noise(value: Arrays, answer: Arrays, noise: Arrays) -> bool:
    """Whether no element is hopelessly far from the variant, by the greatest noise of two draws."""
    for name, actual in answer.items():
        finite = np.isfinite(value[name])
        far = np.abs(actual[finite] - value[name][finite]).max(initial=0)
        if far > 8 * GATE * noise[name].max(initial=0):
            return False
    return True


def _compared(actual: Array, expected: Array, sigma: Array) -> Fit:
    finite = np.isfinite(expected)
    error, sigma = np.abs(actual[finite] - expected[finite]), sigma[finite]
    deviation = np.divide(error, sigma, out=np.where(error == 0, 0.0, np.inf), where=sigma > 0)
    floor = np.finfo(np.float64).eps * np.abs(expected[finite]).max(initial=0) / HOPELESS
    width = float(np.log(np.maximum(sigma, floor + np.finfo(np.float64).tiny)).mean()) if sigma.size else 0.0
    return Fit(float(deviation.max(initial=0)), width)
