"""What moved in one array: how many elements, how far in units in the last place and in sigma, and beyond the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_tests.harness.rounding import GATE, Array, Rounded

PRECISIONS = {"float64": (53, -1022), "float32": (24, -126), "bfloat16": (8, -126), "float16": (11, -14)}
"""Bits of the significand, and the exponent of the smallest normal number."""


@dataclass(frozen=True)
class Place:
    """The element that moved furthest, in sigma of that element and in units in its last place."""

    index: tuple[int, ...]
    before: float
    after: float
    expected: float
    sigmas: float
    units: float


@dataclass(frozen=True)
class Moved:
    """One array of a subject, before and after."""

    subject: str
    clause: str
    case: str
    dtype: str
    array: str
    compared: int
    moved: int = 0
    beyond: int = 0
    """How many elements moved beyond the gate."""
    worst: Place | None = None
    note: str = ""
    """What is to be said if it is no array of the same shape any more."""


@dataclass(frozen=True)
class Moves:
    """The moves of one array, element by element, beside its truth; `kept` says which elements have a meaning."""

    before: Array
    after: Array
    truth: Rounded
    kept: Array
    dtype: str

    @property
    def moved(self) -> Array:
        """Which elements are others than before; 0 and -0 are one, and so are two NaN."""
        return different(self.before, self.after) & self.kept

    @property
    def sigmas(self) -> Array:
        """How far each moved, in its own sigma; infinite for a number that became none, or that has no noise."""
        size = np.where(self.moved, np.abs(self._change), 0.0)
        sigma = self.truth.sigma
        found = np.divide(size, sigma, out=np.where(size == 0, 0.0, np.inf), where=sigma > 0)
        return np.where(np.isnan(found), np.inf, found)

    @property
    def beyond(self) -> Array:
        """Which moved by more than the gate, or left it."""
        left = self.outside(self.after) & ~self.outside(self.before)
        return self.moved & ((self.sigmas > GATE) | left)

    def outside(self, array: Array) -> Array:
        """Which elements are further from the truth than the gate allows; NaN is."""
        with np.errstate(invalid="ignore"):
            return ~(np.abs(array - self.truth.value) <= GATE * self.truth.sigma)

    @property
    def worst(self) -> Place | None:
        """The element that moved furthest; of those that moved infinitely far, by the size of the move."""
        if not self.moved.any():
            return None
        size = np.nan_to_num(np.abs(self._change), nan=np.inf, posinf=np.inf)
        furthest = self.sigmas == self.sigmas.max()
        index = np.unravel_index(np.argmax(np.where(furthest & self.moved, size, -1.0)), size.shape)
        value = float(self.truth.value[index])
        units = float(size[index]) / float(unit_of(np.array(value), self.dtype))
        numbers = float(self.before[index]), float(self.after[index]), value, float(self.sigmas[index])
        return Place(tuple(map(int, index)), *numbers, units)

    @property
    def _change(self) -> Array:
        with np.errstate(invalid="ignore", over="ignore"):
            return self.after.astype(np.float64) - self.before.astype(np.float64)


def different(before: Array, after: Array) -> Array:
    """Which elements of two arrays of one shape are not the same number, or both NaN."""
    return ~((before == after) | (np.isnan(before) & np.isnan(after)))


def unit_of(value: Array, dtype: str) -> Array:
    """The unit in the last place of a number in a format: of 0 and subnormal numbers, that of the smallest normal."""
    bits, least = PRECISIONS[dtype]
    exponent = np.frexp(np.abs(value.astype(np.float64)))[1] - 1
    return np.ldexp(1.0, np.maximum(np.where(value == 0, least, exponent), least) - bits + 1)


def no_array(subject: Any, clause: str, key: str, array: str, note: str) -> Moved:
    """What cannot be compared any more counts as one element that moved beyond the gate."""
    case, _, dtype = key.rpartition("/")
    return Moved(subject, clause, case, dtype, array, 1, 1, 1, None, note)
