"""Rounding noise, element by element: an array that carries the variance of its own error.

`Rounded` holds a value and the first-order variance of the error that a given floating format makes
while computing it. Running the oracle on it yields, for every element of every
stage, the standard deviation sigma by which a correct implementation may differ. The model,
its sources and what it leaves out: docs/rounding.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GATE = 8.0
"""An element passes if it lies within this many sigma of the oracle. No other tolerance exists."""


@dataclass(frozen=True)
class Format:
    """A floating format: its unit roundoff, that of the sums carried for it, its underflow floor, and a better one."""

    unit: float
    sums: float
    floor: float
    work: type[np.floating[Any]] = np.float64


FORMATS = {
    # The variance of a float64 underflow, 1e-616, is itself no float64: its floor is as small as squares allow.
    # The oracle works in extended precision there, on processors that have it.
    "float64": Format(2.0**-53, 2.0**-53, 2.0**-511, np.longdouble),
    "float32": Format(2.0**-24, 2.0**-24, 2.0**-126),  # XLA flushes subnormals to zero
    "bfloat16": Format(2.0**-8, 2.0**-24, 2.0**-126),
    "float16": Format(2.0**-11, 2.0**-24, 2.0**-24),  # computed in float32: subnormals survive
}

EXP_ROUNDINGS = TANH_ROUNDINGS = 4
"""Variance of a library exponential or tanh (up to two units in the last place), in single roundings."""


def to_format(array: npt.ArrayLike, dtype: str) -> Array:
    """A copy rounded to `dtype`, to nearest even. bfloat16, which NumPy lacks, comes as float32 with such numbers."""
    if dtype != "bfloat16":
        return np.array(array, dtype)
    bits = np.asarray(array, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass(frozen=True, eq=False)
class Rounded:
    """A value, better than `form` can hold, with the variance of the error that `form` makes in computing it.

    Elements' errors count as independent, with one exception. After a product a @ B the error
    that came with `a` is kept aside, as (variance of a, B), so that in (a @ B) @ C it passes
    through B @ C, as it does in truth: columns of B that C adds up are moved by one error of a.
    """

    value: Array
    own: Array
    form: Format
    source: tuple[Array, Array] | None = None

    @classmethod
    def exact(cls, value: npt.ArrayLike, dtype: str) -> Rounded:
        """A number as given, free of error."""
        form = FORMATS[dtype]
        value = np.array(value, form.work)
        return cls(value, np.zeros(value.shape), form)

    def zeros(self, *shape: int) -> Rounded:
        """Zeros, free of error, in the same format."""
        return Rounded(np.zeros(shape, self.form.work), np.zeros(shape), self.form)

    def ones(self, *shape: int) -> Rounded:
        """Ones, free of error, in the same format."""
        return Rounded(np.ones(shape, self.form.work), np.zeros(shape), self.form)

    @property
    def variance(self) -> Array:
        """The variance of the error, from all causes."""
        if self.source is None:
            return self.own
        variance, matrix = self.source
        return self.own + variance @ matrix**2

    @property
    def sigma(self) -> Array:
        """The standard deviation of the error, in the units of the value."""
        return np.sqrt(self.variance)

    @property
    def T(self) -> Rounded:  # noqa: N802
        return Rounded(self.value.T, self.variance.T, self.form)

    def __getitem__(self, index: Any) -> Rounded:
        return Rounded(self.value[index], self.variance[index], self.form)

    def __setitem__(self, index: Any, part: Rounded) -> None:
        self.value[index], self.own[index] = part.value, part.variance

    def reshape(self, *shape: int) -> Rounded:
        return Rounded(self.value.reshape(shape), self.variance.reshape(shape), self.form)

    def swapaxes(self, first: int, second: int) -> Rounded:
        return Rounded(self.value.swapaxes(first, second), self.variance.swapaxes(first, second), self.form)

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
        product = _products([(self, other)])
        own = product.own if self.source is None else product.own + _through(self.source, other)
        return Rounded(product.value, own, self.form, (self.own, other.value))

    def sum(self, axis: int) -> Rounded:
        value, variance = self.value.sum(axis), self.variance.sum(axis)
        return self._summed(value, variance, (self.value**2).sum(axis), self.value.shape[axis])

    def tanh(self) -> Rounded:
        value = np.tanh(self.value)
        return self._stored(value, (1 - value**2) ** 2 * self.variance, TANH_ROUNDINGS)

    def tanh_slope(self) -> Rounded:
        """1 - t^2, of a tanh t."""
        return self.ones(*self.value.shape) - self * self

    def log(self) -> Rounded:
        value = np.log(self.value)
        return self._stored(value, self.variance / self.value**2)

    def softmax(self) -> Rounded:
        """Softmax of one row: a shift common to all scores cancels."""
        shifted = self.value - self.value.max()
        powers = np.exp(shifted)
        value = powers / powers.sum()
        relative = self.variance + self.form.unit**2 / 3 * (shifted**2 + EXP_ROUNDINGS)  # of each power
        summing = self.form.sums**2 / 3 * len(value) * ((value**2).sum() + 1 / 3)
        spread = relative * (1 - 2 * value) + (value**2 * relative).sum() + summing
        return self._stored(value, value**2 * spread)

    def _stored(self, value: Array, variance: Array, roundings: int = 1) -> Rounded:
        """A result after `roundings` roundings to the format: each is uniform, variance u^2/3 relative."""
        noise = roundings * self.form.unit**2 / 3 * value**2 + self.form.floor**2
        return Rounded(value, variance + noise, self.form)

    def _summed(self, value: Array, variance: Array, squares: Array, terms: int) -> Rounded:
        """A sum of `terms` products, in any order, whose squares add up to `squares`."""
        u, floor = self.form.sums, self.form.floor
        variance = variance + u**2 / 3 * (terms * squares + terms / 3 * value**2) + terms * floor**2
        if self.form.unit == u:
            return Rounded(value, variance, self.form)
        return self._stored(value, variance)


def sum_of_products(blocks: Sequence[tuple[Rounded, Rounded]]) -> Rounded:
    """a_1 @ b_1 + a_2 @ b_2 + ..., as one sum of products in any order."""
    product = _products(blocks)
    own = product.own
    for a, b in blocks:
        own = own + a.own @ b.value**2
        if a.source is not None:
            own = own + _through(a.source, b)
    return Rounded(product.value, own, product.form)


def _products(blocks: Sequence[tuple[Rounded, Rounded]]) -> Rounded:
    """The sum of products, without the errors that came with the left operands."""
    value: Array = sum(a.value @ b.value for a, b in blocks)  # type: ignore[assignment]
    squares: Array = sum(a.value**2 @ b.value**2 for a, b in blocks)
    variance: Array = sum(a.value**2 @ b.variance for a, b in blocks)  # type: ignore[assignment]
    terms = sum(a.value.shape[-1] for a, _ in blocks)
    return blocks[0][0]._summed(value, variance, squares, terms)


def _through(source: tuple[Array, Array], other: Rounded) -> Array:
    """The variance in (a @ B) @ other that comes of a's error, of which `source` is (variance, B)."""
    variance, matrix = source
    return variance @ (matrix @ other.value) ** 2


def flat(x: Rounded) -> Rounded:
    """All axes but the last as one."""
    *axes, width = x.value.shape
    return x.reshape(int(np.prod(axes)), width)
