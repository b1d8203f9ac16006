"""Comparisons: pure functions from arrays to verdicts. A NaN equals nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from shared_tests.harness.rounding import FORMATS, GATE, Array, Expected, Rounded, to_format

BINS = 32
"""How many equal bins of a histogram lie between 0 and the gate."""


@dataclass(frozen=True)
class Verdict:
    """How many comparisons of what were made, how many failed or were excused, and the worst deviation in sigma.

    histogram: of what is compared in sigma, how many elements lie in each of BINS bins between 0 and the gate, their
    upper edges included, and how many beyond it. Elements without error of which no noise
    is expected are left out.
    """

    compared: int = 0
    failed: int = 0
    worst: float | None = None
    excused: int = 0
    note: str = ""
    what: str = ""
    histogram: tuple[int, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether something was compared and nothing failed."""
        return self.compared > 0 and self.failed == 0

    def __add__(self, other: Verdict) -> Verdict:
        worst = [verdict.worst for verdict in (self, other) if verdict.worst is not None]
        return Verdict(
            self.compared + other.compared,
            self.failed + other.failed,
            float(np.max(worst)) if worst else None,
            self.excused + other.excused,
            self.note or other.note,
            histogram=tuple(map(sum, zip_longest(self.histogram, other.histogram, fillvalue=0))),
        )


def failure(note: str, compared: int = 1) -> Verdict:
    """A verdict of `compared` comparisons that all failed."""
    return Verdict(compared, compared, note=note)


def shape_and_dtype(actual: Array, shape: tuple[int, ...], dtype: str) -> Verdict:
    """The shape is this, and so is the dtype (of a bfloat16: float32 that holds bfloat16 numbers)."""
    if actual.shape != shape:
        return failure(f"expected shape {shape}, got {actual.shape}")
    if actual.dtype != ("float32" if dtype == "bfloat16" else dtype):
        return failure(f"expected dtype {dtype}, got {actual.dtype}")
    if dtype == "bfloat16" and not _same(actual, to_format(actual, dtype)).all():
        return failure("expected bfloat16 numbers, got more precise ones")
    return Verdict(1)


def within_gate(actual: Array, truth: Expected | Rounded, kept: Array | bool = True) -> Verdict:
    """Each element lies within GATE sigma of the truth; of what is not kept, nothing is asked."""
    if actual.shape != truth.value.shape:
        return failure(f"expected shape {truth.value.shape}, got {actual.shape}", max(truth.value.size, 1))
    kept = np.broadcast_to(kept, actual.shape)
    if not kept.any():
        return Verdict()
    deviation = np.where(kept, in_sigma(actual, truth), 0.0)
    compared, failed = int(kept.sum()), int((deviation > GATE).sum())
    worst = np.unravel_index(np.argmax(deviation), deviation.shape)
    place = tuple(int(i) for i in worst)
    note = f"{failed} of {compared} off, worst at {place}: {actual[worst]:.9g}, expected {truth.value[worst]:.9g}"
    counted = _histogram(deviation[kept & ((truth.sigma > 0) | (deviation > 0))])
    return Verdict(compared, failed, float(deviation[worst]), note=note if failed else "", histogram=counted)


def in_sigma(actual: Array, truth: Expected | Rounded) -> Array:
    """How far each element is from the truth, in its own sigma; infinite where there is no number, or no noise."""
    error = np.abs(actual.astype(np.float64) - truth.value)
    deviation = np.divide(error, truth.sigma, out=np.where(error == 0, 0.0, np.inf), where=truth.sigma > 0)
    return np.where(np.isnan(deviation), np.inf, deviation)


def _histogram(deviation: Array) -> tuple[int, ...]:
    """`Verdict.histogram` of these deviations."""
    bins = np.clip(np.ceil(deviation * (BINS / GATE)) - 1, 0, BINS).astype(int)
    return tuple(np.bincount(bins, minlength=BINS + 1).tolist())


def bit_identical(left: Array, right: Array, truth: Expected | Rounded) -> Verdict:
    """Two float64 arrays are one after rounding to float32.

    An element that differs is excused if its own interval, GATE sigma about the truth, holds a
    boundary between two float32 numbers: there, exact agreement is not to be had.
    """
    if not left.shape == right.shape == truth.value.shape:
        return failure(f"expected shape {truth.value.shape}, got {left.shape} and {right.shape}")
    with np.errstate(over="ignore"):
        differs = ~_same(left.astype(np.float32), right.astype(np.float32))
        low, high = ((truth.value + sign * GATE * truth.sigma).astype(np.float32) for sign in (-1, 1))
    excused = differs & (low != high) & np.isfinite(left) & np.isfinite(right)
    inside = (np.minimum(left, right) >= truth.value - GATE * truth.sigma) & (
        np.maximum(left, right) <= truth.value + GATE * truth.sigma
    )
    excused &= inside
    failed = int((differs & ~excused).sum())
    note = f"{failed} of {differs.size} differ after rounding to float32" if failed else ""
    return Verdict(differs.size, failed, excused=int(excused.sum()), note=note)


def same_bits(actual: Array, expected: Array, what: str) -> Verdict:
    """The arrays are equal element by element, NaN nowhere (0 and -0 are one)."""
    if actual.shape != expected.shape:
        return failure(f"{what}: expected shape {expected.shape}, got {actual.shape}")
    failed = int((~_same(actual, expected)).sum())
    return Verdict(actual.size, failed, note=f"{what}: {failed} of {actual.size} differ" if failed else "")


def rows_sum_to_one(weights: Array, dtype: str) -> Verdict:
    """Every row of weights sums to 1, within the noise of its normalisation."""
    form, squares, keys = FORMATS[dtype], (weights.astype(np.float64) ** 2).sum(-1), weights.shape[-1]
    variance = form.unit**2 / 3 * squares + form.sums**2 / 3 * keys * (squares + 1 / 3) + keys * form.floor**2
    sums = weights.astype(np.float64).sum(-1)
    return within_gate(sums, Expected(np.ones_like(sums), np.sqrt(variance)))


def _same(left: Array, right: Array) -> Array:
    return np.equal(left, right)
