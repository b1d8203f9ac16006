"""Rounding noise, element by element: an array that carries draws of its own error.

`Rounded` holds a value and, for every element, 64 draws of the first-order error that a given floating
format makes in computing it. Each operation passes them on by its derivative and adds errors of its own,
so what elements have in common stays in common. Running the oracle on it yields, for every element of
every stage, the standard deviation sigma by which a correct implementation may differ. The model, its
sources and what it leaves out: docs/rounding.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_tests.harness import elementary

Array = npt.NDArray[Any]

GATE = 8.0
"""An element passes if it lies within this many sigma of the oracle. No other tolerance exists."""
DRAWS = 64
"""How many draws of the error: a word of random bits, for the signs of one element in all of them."""
SHIFTS = np.arange(DRAWS, dtype=np.uint64)
SIGN = np.uint64(1 << 63)
"""The bit of a float64 that holds its sign."""
CANCELLED = 2.0**-48
"""What float64 cannot tell from 0 in a difference, of what is subtracted."""
SMALLEST = 2.0**-800
"""By what terms are divided at the least, so that they stay finite."""
ALIKE = np.uint64(2**64 - 2**32)
"""The bits of a word that give the signs of the first half of the draws."""
EXP_ROUNDINGS, TANH_ROUNDINGS = 4, 12
"""Variance of a library's exponential or tanh, in single roundings: measured, docs/rounding.md."""


@dataclass(frozen=True)
class Format:
    """A floating format: its unit roundoff, that of the sums carried for it, its underflow floor, and a better one.

    random: where the signs of errors come from. One is made for every calculation, by `seeded`, so that a trial's
    sigma depends neither on what was computed before it nor on other threads.
    """

    unit: float
    sums: float
    floor: float
    work: type[np.floating[Any]] = np.float64
    random: np.random.Generator | None = None

    def seeded(self, *words: str) -> Format:
        """The same format with a generator that these words determine."""
        return replace(self, random=np.random.default_rng([zlib.crc32(word.encode()) for word in words]))

    def signed(self, scale: npt.ArrayLike, of: Array | None = None) -> Array:
        """(DRAWS, ...): `scale`, with a sign of its own for each element in each draw.

        of: the numbers whose rounding this is. Equal ones may round alike, or only seem equal: in the first half of the
        draws they share a sign, and opposite ones have opposite signs; in the second half they do not.
        """
        if self.random is None:
            raise ValueError("Format: expected a generator, as `seeded` gives it, got none")
        size: Array = np.array(scale, np.float64)
        bits = self.random.integers(0, 2**64, size.shape, np.uint64)
        if of is not None:
            bits = bits & ~ALIKE | self._words(of) & ALIKE
            size = np.copysign(size, of.astype(np.float64))
        signs: Array = bits << SHIFTS.reshape(-1, *(1,) * size.ndim)
        signs &= SIGN
        signs ^= size.view(np.uint64)
        return signs.view(np.float64)

    def _words(self, numbers: Array) -> Array:
        """A random word for each number that the format tells apart, others at each call: splitmix64 of its bits."""
        assert self.random is not None
        lost = 0 if self.work is not np.float64 else round(53 + np.log2(self.unit))  # bits of a float64's significand
        words = np.abs(numbers).astype(np.float64).reshape(-1).view(np.uint64) + np.uint64(2**lost >> 1)
        words = words >> np.uint64(lost) ^ self.random.integers(0, 2**64, 1, np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            words = (words ^ words >> np.uint64(shift)) * np.uint64(factor)
        return (words ^ words >> np.uint64(31)).reshape(numbers.shape)


FORMATS = {
    # The variance of a float64 underflow, 1e-616, is itself no float64: its floor is as small as squares allow.
    # The oracle works in extended precision there, on processors that have it.
    "float64": Format(2.0**-53, 2.0**-53, 2.0**-511, np.longdouble),
    "float32": Format(2.0**-24, 2.0**-24, 2.0**-126),  # XLA flushes subnormals to zero
    "bfloat16": Format(2.0**-8, 2.0**-24, 2.0**-126),
    "float16": Format(2.0**-11, 2.0**-24, 2.0**-24),  # computed in float32: subnormals survive
}


def to_format(array: npt.ArrayLike, dtype: str) -> Array:
    """A copy rounded to `dtype`, to nearest even. bfloat16, which NumPy lacks, comes as float32 with such numbers."""
    if dtype != "bfloat16":
        return np.array(array, dtype)
    bits = np.asarray(array, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass(frozen=True, eq=False)
class Expected:
    """A value, and the standard deviation of its error: all that a result is compared with."""

    value: Array
    sigma: Array

    def __getitem__(self, index: Any) -> Expected:
        return Expected(self.value[index], self.sigma[index])


@dataclass(frozen=True, eq=False)
class Rounded:
    """A value (...), better than `form` can hold, with draws (DRAWS, ...) of the error that `form` makes of it.

    An operation on two takes its own errors from the generator of the first.
    """

    value: Array
    errors: Array
    form: Format

    @classmethod
    def exact(cls, value: npt.ArrayLike, form: Format) -> Rounded:
        """A number as given, free of error."""
        value = np.array(value, form.work)
        return cls(value, np.broadcast_to(0.0, (DRAWS, *value.shape)), form)

    @classmethod
    def of(cls, value: npt.ArrayLike, sigma: npt.ArrayLike, form: Format) -> Rounded:
        """A number whose elements have independent errors of this size."""
        value = np.array(value, form.work)
        return cls(value, form.signed(np.broadcast_to(sigma, value.shape)), form)

    def zeros(self, *shape: int) -> Rounded:
        """Zeros, free of error, in the same format; they can be written to."""
        return Rounded(np.zeros(shape, self.form.work), np.zeros((DRAWS, *shape)), self.form)

    def ones(self, *shape: int) -> Rounded:
        """Ones, free of error, in the same format."""
        return Rounded.exact(np.ones(shape), self.form)

    def under(self, form: Format) -> Rounded:
        """The same number, to be computed with in this format, by its generator."""
        return Rounded(self.value, self.errors, form)

    @property
    def free(self) -> Rounded:
        """The same value, free of error."""
        return Rounded.exact(self.value, self.form)

    @property
    def flat(self) -> Array:
        """The value in float64: good enough to pass errors on."""
        return self.value.astype(np.float64)

    @property
    def is_exact(self) -> bool:
        """Whether it is as `exact` makes it: one zero stands for all errors."""
        return not any(self.errors.strides)

    @property
    def expected(self) -> Expected:
        """The value and its sigma, without the draws."""
        return Expected(self.value, self.sigma)

    @cached_property
    def sigma(self) -> Array:
        """The standard deviation of the error, in the units of the value: the root mean square of its draws."""
        return np.sqrt(self.variance)

    @property
    def variance(self) -> Array:
        return np.einsum("n...,n...->...", self.errors, self.errors) / DRAWS

    @property
    def T(self) -> Rounded:  # noqa: N802
        return self.swapaxes(-1, -2)

    def __getitem__(self, index: Any) -> Rounded:
        return Rounded(self.value[index], self.errors[_of_errors(index)], self.form)

    def __setitem__(self, index: Any, part: Rounded) -> None:
        missing = (1,) * (self.value[index].ndim - part.value.ndim)
        self.errors[_of_errors(index)] = part.errors.reshape(DRAWS, *missing, *part.value.shape)
        self.value[index] = part.value
        self.__dict__.pop("sigma", None)

    def reshape(self, *shape: int) -> Rounded:
        return Rounded(self.value.reshape(shape), self.errors.reshape(DRAWS, *shape), self.form)

    def swapaxes(self, first: int, second: int) -> Rounded:
        ndim = self.value.ndim
        errors = self.errors.swapaxes(first % ndim + 1, second % ndim + 1)
        return Rounded(self.value.swapaxes(first, second), errors, self.form)

    def __add__(self, other: Rounded) -> Rounded:
        mine, theirs = _aligned(self, other)
        return self._stored(self.value + other.value, mine + theirs)

    def __sub__(self, other: Rounded) -> Rounded:
        mine, theirs = _aligned(self, other)
        return self._stored(self.value - other.value, mine - theirs)

    def __mul__(self, other: Rounded | float) -> Rounded:
        """The product with another, or with a constant that the format holds."""
        other = other if isinstance(other, Rounded) else Rounded.exact(other, self.form)
        mine, theirs = _aligned(self, other)
        return self._stored(self.value * other.value, mine * other.flat + self.flat * theirs)

    def __truediv__(self, other: Rounded | float) -> Rounded:
        """The quotient by another, or by a constant that is itself rounded: one error, common to all elements."""
        if not isinstance(other, Rounded):
            other = Rounded.exact(other, self.form)._stored(np.array(other), np.zeros(DRAWS))
        mine, theirs = _aligned(self, other)
        value = self.value / other.value
        return self._stored(value, (mine - value.astype(np.float64) * theirs) / other.flat)

    def __matmul__(self, other: Rounded) -> Rounded:
        return sum_of_products([(self, other)])

    def sum(self, axis: int) -> Rounded:
        axis %= self.value.ndim
        terms, value = np.moveaxis(self.flat, axis, -1), self.value.sum(axis)
        repeats = _repeats(terms, value.astype(np.float64), self.form.sums)
        return self._summed(value, self.errors.sum(axis + 1), (terms**2).sum(-1), terms.shape[-1], repeats)

    def inner(self, other: Rounded) -> Rounded:
        """The sum of products along the last axis."""
        errors = np.einsum("n...k,...k->n...", self.errors, other.flat)
        errors += np.einsum("...k,n...k->n...", self.flat, other.errors)
        products = self.value * other.value
        squares = (products.astype(np.float64) ** 2).sum(-1)
        return self._summed(products.sum(-1), errors, squares, products.shape[-1])

    def sqrt(self) -> Rounded:
        """The root; that of 0 takes no error along, as it has no derivative."""
        value = np.sqrt(self.value)
        slope = np.divide(0.5, value, out=np.zeros_like(value), where=value > 0)
        return self._stored(value, slope.astype(np.float64) * self.errors)

    def tanh(self) -> Rounded:
        value = elementary.tanh(self.value)
        return self._stored(value, (1 - value.astype(np.float64) ** 2) * self.errors, TANH_ROUNDINGS)

    def tanh_slope(self) -> Rounded:
        """1 - t^2, of a tanh t."""
        return self.ones(*self.value.shape) - self * self

    def log(self) -> Rounded:
        return self._stored(elementary.log(self.value), self.errors / self.flat)

    def softmax(self) -> Rounded:
        """Softmax along the last axis: a shift common to the scores of a row cancels, an error of the sum does not."""
        shifted = self.value - self.value.max(-1, keepdims=True)
        powers = elementary.exp(shifted)
        value = powers / powers.sum(-1, keepdims=True)
        w, u, u_s = value.astype(np.float64), self.form.unit, self.form.sums
        squares = (w**2).sum(-1, keepdims=True)
        relative = self.errors + self.form.signed(
            u * np.sqrt((shifted.astype(np.float64) ** 2 + EXP_ROUNDINGS) / 3), value
        )
        relative -= np.einsum("...k,n...k->n...", w, relative)[..., None]
        relative -= self.form.signed(u_s * np.sqrt(w.shape[-1] * (squares + 1 / 3) / 3))
        return self._stored(value, w * relative)

    def _stored(self, value: Array, errors: Array, roundings: int = 1) -> Rounded:
        """A result after `roundings` roundings to the format: each is uniform, variance u^2/3 relative."""
        value = np.asarray(value)
        variance = roundings * self.form.unit**2 / 3 * value.astype(np.float64) ** 2 + self.form.floor**2
        return self._noisy(value, errors, variance)

    def _summed(
        self, value: Array, errors: Array, squares: Array, terms: int | Array, repeats: Array | None = None
    ) -> Rounded:
        """A sum of `terms` products, in any order, whose squares add up to `squares`, and stored.

        repeats: pairs of equal terms. While equal terms are added one by one, each sum is rounded like the one before.
        """
        form, value = self.form, np.asarray(value)
        total = value.astype(np.float64) ** 2
        if repeats is None:
            repeats = _repeated_products(total, squares, terms, form.sums)
        drift = terms / 3 + repeats / 9
        variance = form.sums**2 / 3 * (terms * squares + drift * total) + terms * form.floor**2
        if form.unit != form.sums:
            variance += form.unit**2 / 3 * total + form.floor**2
        return self._noisy(value, errors, variance)

    def _noisy(self, value: Array, errors: Array, variance: Array) -> Rounded:
        """A result with these errors and one of its own, of this variance."""
        noise = self.form.signed(np.sqrt(variance), value)
        noise += errors  # in the same memory: with a third array it takes longer
        return Rounded(value, noise, self.form)


def _repeats(terms: Array, total: Array, unit: float) -> Array:
    """How many pairs there are of terms, along the last axis, that are equal to within a rounding of their sum."""
    size = np.maximum(unit * np.abs(total), SMALLEST)[..., None]
    steps = np.sort(np.round(terms / size), axis=-1)
    first = np.diff(steps, axis=-1, prepend=np.nan) != 0
    group = first.cumsum().reshape(steps.shape) - 1
    return np.bincount(group.ravel(), minlength=1)[group].sum(-1) - terms.shape[-1]


def _repeated_products(total: Array, squares: Array, terms: int | Array, unit: float) -> Array:
    """The same of products, from their number, and from their sum and that of their squares, both squared."""
    n = np.maximum(terms, 1)
    rounding, spread = unit**2 * total, np.maximum(squares / n * (1 - CANCELLED) - total / n**2, 0)
    return n * (n - 1) * np.divide(rounding, rounding + spread, out=np.zeros_like(total), where=rounding > 0)


def sum_of_products(blocks: Sequence[tuple[Rounded, Rounded]], terms: int | Array | None = None) -> Rounded:
    """a_1 @ b_1 + a_2 @ b_2 + ..., as one sum of products in any order, of which `terms` (all, if None) are not 0."""
    value: Array = sum(a.value @ b.value for a, b in blocks)  # type: ignore[assignment]
    squares: Array = sum(a.flat**2 @ b.flat**2 for a, b in blocks)
    errors = np.zeros(1)
    for a, b in blocks:
        mine, theirs = _aligned(a, b)
        if not a.is_exact:
            errors = errors + mine @ b.flat
        if not b.is_exact:
            errors = errors + a.flat @ theirs
    terms = sum(a.value.shape[-1] for a, _ in blocks) if terms is None else terms
    return blocks[0][0]._summed(value, errors, squares, terms)


def affine(x: Rounded, weight: Rounded, bias: Rounded | None) -> Rounded:
    """x @ weight + bias, with the errors of both ways to compute it: as one sum, or the product stored before."""
    if bias is None:
        return x @ weight
    bias = bias[None] if bias.value.ndim == 1 else bias
    whole, form = sum_of_products([(x, weight), (x.ones(*x.value.shape[:-1], 1), bias)]), x.form
    if form.unit == form.sums:
        return whole
    stored = form.unit / np.sqrt(3) * np.abs(x.flat @ weight.flat)
    return Rounded(whole.value, whole.errors + form.signed(stored), form)


def flat(x: Rounded) -> Rounded:
    """All axes but the last as one."""
    *axes, width = x.value.shape
    return x.reshape(int(np.prod(axes)), width)


def _of_errors(index: Any) -> tuple[Any, ...]:
    """An index into the value as one into its errors."""
    return (slice(None), *(index if isinstance(index, tuple) else (index,)))


def _aligned(a: Rounded, b: Rounded) -> tuple[Array, Array]:
    """The errors of both with as many axes, for NumPy to broadcast behind the first."""
    ndim = max(a.value.ndim, b.value.ndim)
    first, second = (x.errors.reshape(DRAWS, *(1,) * (ndim - x.value.ndim), *x.value.shape) for x in (a, b))
    return first, second
