"""Whether a variant explains an answer: near enough in float64, then in two draws of its noise, then in all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shared_tests.faults.probes import Probe
from shared_tests.faults.variants import Arrays, Faults, noise_of, of_gradients, quick, truth, variant
from shared_tests.harness.rounding import FORMATS, GATE, Array

DRAWS = 24
"""With so many a sigma is good to 15 %, and the gate is 8."""
LEAST = 2.0**-6
"""What is computed less well errs in the median by more than this share of its sigma, somewhere."""
HOPELESS = 2.0**16
"""A deviation of so many roundings of the greatest element is no noise: the sampling is spared."""
COARSE = 16.0
"""A loss of precision moves nothing by more than so many of its roundings, of the greatest element, for each unit that
the greatest score has: the exponential makes of a score's error that times the score."""


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
    value, sigma = variant(faults, probe, gradient), noise_of(faults, probe, gradient, DRAWS)
    assert value is not None
    if faults and not all(_ratio(answer[name], value[name], sigma[name]) <= 2 for name in answer):
        return None  # else what is computed much less well would explain anything
    if not _as_wide(faults, probe, answer, sigma):
        return None  # nor is a port that errs far less computed so
    fits = [_compared(answer[name], value[name], sigma[name]) for name in answer]
    worst = max((one.worst for one in fits), default=0.0)
    return Fit(worst, float(np.mean([one.width for one in fits]))) if worst <= GATE else None


def rough_width(faults: Faults, probe: Probe, answer: Arrays) -> float | None:
    """About the width of `fit`, from two draws; None where they show that there is no fit. Most variants end here."""
    gradient = of_gradients(answer)
    if not _plausible(faults, probe, answer):
        return None
    value, sigma = variant(faults, probe, gradient), noise_of(faults, probe, gradient, 2)
    if value is None or not _near(value, answer, HOPELESS * _least_unit(faults, probe) if faults else np.inf, faults):
        return None
    if faults and not all(_ratio(answer[name], value[name], sigma[name]) <= 4 for name in answer):
        return None
    return float(np.mean([_compared(answer[name], value[name], sigma[name]).width for name in answer]))


def _plausible(faults: Faults, probe: Probe, answer: Arrays) -> bool:
    """Whether the answer is near enough for the variant to be computed with care: what is asked of most is this alone.

    Without its losses of precision a variant has to be about right; and with them in float64. Of a number that is added
    to the scores, or put in their place, less precision can leave nothing of the scores.
    """
    exact, names = tuple(fault for fault in faults if not fault.unit), tuple(answer)
    unit = max((fault.unit for fault in faults), default=0.0)
    if unit and not any(fault.kind == "mask" for fault in faults):
        value = quick(exact, probe, names)
        if value is None or not _about(value, answer, COARSE * unit * (1 + _greatest_score(probe))):
            return False
    if not faults:
        return True
    value = quick(faults, probe, names)
    return value is not None and _near(value, answer, HOPELESS * max(_least_unit(faults, probe), 2.0**-49), faults)


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


def _least_unit(faults: Faults, probe: Probe) -> float:
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


def _as_wide(faults: Faults, probe: Probe, answer: Arrays, sigma: Arrays) -> bool:
    """Whether the answer errs, from what no loss of precision makes of it, about as much as the losses do."""
    exact, gradient = tuple(fault for fault in faults if not fault.unit), of_gradients(answer)
    value, plain = variant(exact, probe, gradient), noise_of(exact, probe, gradient, 2)
    assert value is not None
    wide = [name for name in answer if sigma[name].mean() > 16 * plain[name].mean()]
    return not wide or any(_ratio(answer[name], value[name], sigma[name], 1.0) >= LEAST for name in wide)


def _ratio(actual: Array, expected: Array, noise: Array, otherwise: float = 0.0) -> float:
    """The median of how many times its noise an element errs, among those that have any; `otherwise` if none has."""
    noisy = np.isfinite(expected) & (noise > 0)
    ratio = np.abs(actual[noisy] - expected[noisy]) / noise[noisy]
    return float(np.median(ratio)) if ratio.size else otherwise


def _compared(actual: Array, expected: Array, sigma: Array) -> Fit:
    finite = np.isfinite(expected)
    error, sigma = np.abs(actual[finite] - expected[finite]), sigma[finite]
    deviation = np.divide(error, sigma, out=np.where(error == 0, 0.0, np.inf), where=sigma > 0)
    floor = np.finfo(np.float64).eps * np.abs(expected[finite]).max(initial=0) / HOPELESS
    width = float(np.log(np.maximum(sigma, floor + np.finfo(np.float64).tiny)).mean()) if sigma.size else 0.0
    return Fit(float(deviation.max(initial=0)), width)
