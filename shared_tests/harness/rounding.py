"""Rounding noise, element by element: an array that carries the variance of its own error.

`Rounded` holds a float64 value and the first-order variance of the error that a given floating
format makes while computing it. Running the oracle on it yields, for every element of every
stage, the standard deviation sigma by which a correct implementation may differ. The model,
its sources and what it leaves out: docs/rounding.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GATE = 8.0
"""An element passes if it lies within this many sigma of the oracle. No other tolerance exists."""


@dataclass(frozen=True)
class Format:
    """A floating format: its unit roundoff, that of the sums carried for it, and its underflow floor."""

    unit: float
    sums: float
    floor: float


FORMATS = {
    # The variance of a float64 underflow, 1e-616, is itself no float64: its floor is as small as squares allow.
    "float64": Format(2.0**-53, 2.0**-53, 2.0**-511),
    "float32": Format(2.0**-24, 2.0**-24, 2.0**-126),  # XLA flushes subnormals to zero
    "bfloat16": Format(2.0**-8, 2.0**-24, 2.0**-126),
    "float16": Format(2.0**-11, 2.0**-24, 2.0**-24),  # computed in float32: subnormals survive
}

EXP_ROUNDINGS = TANH_ROUNDINGS = 4
"""Variance of a library exponential or tanh (up to two units in the last place), in single roundings."""


def to_format(array: npt.ArrayLike, dtype: str) -> Array:
    """Rounds to `dtype`, to nearest even. bfloat16, which NumPy lacks, comes as float32 holding such numbers."""
    if dtype != "bfloat16":
        return np.asarray(array, dtype)
    bits = np.asarray(array, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A float64 value with the variance of the error that `form` makes in computing it."""

    value: Array
    variance: Array
    form: Format

    @classmethod
    def exact(cls, value: npt.ArrayLike, dtype: str) -> Rounded:
        """A number as given, free of error."""
        value = np.asarray(value, np.float64)
        return cls(value, np.zeros_like(value), FORMATS[dtype])

    def zeros(self, *shape: int) -> Rounded:
        """Zeros, free of error, in the same format."""
        return replace(self, value=np.zeros(shape), variance=np.zeros(shape))

    def ones(self) -> Rounded:
        """Ones, free of error, of the same shape and format."""
        return replace(self, value=np.ones_like(self.value), variance=np.zeros_like(self.value))

    @property
    def sigma(self) -> Array:
        """The standard deviation of the error, in the units of the value."""
        return np.sqrt(self.variance)

    @property
    def T(self) -> Rounded:  # noqa: N802
        return replace(self, value=self.value.T, variance=self.variance.T)

    def __getitem__(self, index: Any) -> Rounded:
        return replace(self, value=self.value[index], variance=self.variance[index])

    def __setitem__(self, index: Any, part: Rounded) -> None:
        self.value[index], self.variance[index] = part.value, part.variance

    def reshape(self, *shape: int) -> Rounded:
        return replace(self, value=self.value.reshape(shape), variance=self.variance.reshape(shape))

    def swapaxes(self, first: int, second: int) -> Rounded:
        return replace(self, value=self.value.swapaxes(first, second), variance=self.variance.swapaxes(first, second))

    def _stored(self, value: Array, variance: Array, roundings: int = 1) -> Rounded:
        """A result after `roundings` roundings to the format: each is uniform, variance u^2/3 relative."""
        noise = roundings * self.form.unit**2 / 3 * value**2 + self.form.floor**2
        return replace(self, value=value, variance=variance + noise)

    def _summed(self, value: Array, variance: Array, squares: Array, terms: int) -> Rounded:
        """A sum of `terms` products, in any order, whose squares add up to `squares`."""
        u, floor = self.form.sums, self.form.floor
        variance = variance + u**2 / 3 * (terms * squares + terms / 3 * value**2) + terms * floor**2
        if self.form.unit == u:
            return replace(self, value=value, variance=variance)
        return self._stored(value, variance)

    def __add__(self, other: Rounded) -> Rounded:
        return self._stored(self.value + other.value, self.variance + other.variance)

    def __sub__(self, other: Rounded) -> Rounded:
        return self._stored(self.value - other.value, self.variance + other.variance)

    def __mul__(self, other: Rounded) -> Rounded:
        variance = self.variance * other.value**2 + self.value**2 * other.variance
        return self._stored(self.value * other.value, variance)

    def __truediv__(self, constant: float) -> Rounded:
        """Divides by a constant that is itself rounded."""
        return self._stored(self.value / constant, self.variance / constant**2, roundings=2)

    def __matmul__(self, other: Rounded) -> Rounded:
        a2, b2 = self.value**2, other.value**2
        variance = self.variance @ b2 + a2 @ other.variance
        return self._summed(self.value @ other.value, variance, a2 @ b2, self.value.shape[-1])

    def sum(self, axis: int) -> Rounded:
        value, variance = self.value.sum(axis), self.variance.sum(axis)
        return self._summed(value, variance, (self.value**2).sum(axis), self.value.shape[axis])

    def tanh(self) -> Rounded:
        value = np.tanh(self.value)
        return self._stored(value, (1 - value**2) ** 2 * self.variance, TANH_ROUNDINGS)

    def tanh_slope(self) -> Rounded:
        """1 - t^2, of a tanh t."""
        return self.ones() - self * self

    def softmax(self) -> Rounded:
        """Softmax of one row: a common shift cancels, and so does noise that moves all scores alike."""
        shifted = self.value - self.value.max()
        powers = np.exp(shifted)
        total = powers.sum()
        value = powers / total
        rounding = self.form.unit**2 / 3
        relative = self.variance + rounding * (shifted**2 + EXP_ROUNDINGS)  # of each power
        summing = self.form.sums**2 / 3 * len(value) * ((value**2).sum() + 1 / 3)
        spread = relative * (1 - 2 * value) + (value**2 * relative).sum() + summing
        return self._stored(value, value**2 * spread)
