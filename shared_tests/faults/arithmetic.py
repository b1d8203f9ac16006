"""How the layer's numbers are computed: as a port computes them, or better than any port, with or without noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from shared_tests.harness.rounding import EXP_ROUNDINGS, FORMATS, TANH_ROUNDINGS, Array, to_format


class Plain:
    """NumPy's own, in the dtype of the operands; bfloat16 and float16 are products of float32, rounded."""

    def __init__(self, dtype: str) -> None:
        self.dtype = self.form = dtype

    @contextmanager
    def working_in(self, form: str) -> Iterator[None]:
        """The operations within are those of another format."""
        before, self.form = self.form, form
        try:
            yield
        finally:
            self.form = before

    def given(self, array: Array) -> Array:
        """What the layer was given, as numbers of this arithmetic."""
        return array

    def cast(self, x: Any) -> Any:
        """An array of floating numbers in the format that is worked in; anything else as it is."""
        return _rounded(x, self.form) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    @property
    def lowest(self) -> Any:
        """The most negative finite number of the format."""
        form = np.float32 if self.form == "bfloat16" else np.dtype(self.form)
        return np.finfo(form).min

    def constant(self, number: float) -> Any:
        return np.dtype("float32" if self.form == "bfloat16" else self.form).type(number)

    def product(self, a: Array, b: Array) -> Array:
        return self._half(a.astype(np.float32) @ b.astype(np.float32)) if self._is_half else a @ b

    def sum(self, x: Array) -> Array:
        """Over the last axis, which stays."""
        return self._half(np.float32(x).sum(-1, keepdims=True)) if self._is_half else x.sum(-1, keepdims=True)

    def stored(self, x: Array) -> Array:
        """The result of an elementwise operation."""
        return self._half(x) if self._is_half else x

    def exp(self, x: Array) -> Array:
        with np.errstate(over="ignore"):
            return self.stored(np.exp(x))

    def tanh(self, x: Array) -> Array:
        return self.stored(np.tanh(x))

    def coarse_sums(self, a: Array, b: Array) -> Array:
        """A product of matrices whose every partial sum is rounded to bfloat16."""
        total: Array = np.zeros(1, np.float32)
        for k in range(a.shape[-1]):
            total = to_format(total + a[..., k, None] * b[..., None, k, :], "bfloat16")
        return total.astype(a.dtype)

    @property
    def _is_half(self) -> bool:
        return self.form in ("bfloat16", "float16")

    def _half(self, x: Array) -> Array:
        return to_format(x, self.form)


class Exact(Plain):
    """Extended precision, so that the value is free of the error that a port in `dtype` makes.

    number: what it computes in; float64 is quicker, and free of error beside float32 alone.

    With `random`, every operation adds a draw of that error: the model of docs/rounding.md, as noise. What the format
    can hold exactly has none. Roundings that a fault makes on purpose are made for good, in value and draws alike.
    """

    def __init__(
        self, dtype: str, random: np.random.Generator | None = None, number: type[np.floating[Any]] = np.longdouble
    ) -> None:
        super().__init__(dtype)
        self.random, self.number = random, number

    def given(self, array: Array) -> Array:
        return array.astype(self.number) if array.dtype.kind == "f" else array

    def cast(self, x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or self.form == self.dtype:
            return x
        return _rounded(x, self.form).astype(self.number)

    @property
    def lowest(self) -> Any:
        return self.number(super().lowest)

    def constant(self, number: float) -> Any:
        return self.number(number)

    def product(self, a: Array, b: Array) -> Array:
        value = a @ b
        if self.random is None:
            return value
        held = self._held(value, a, b) & self._held(np.abs(a) @ np.abs(b), np.abs(a), np.abs(b))  # not by luck
        squares, terms = a**2 @ b**2, a.shape[-1]
        noise = FORMATS[self.form].sums * np.sqrt((terms * squares + terms / 3 * value**2) / 3)
        noise = noise + np.sqrt(terms) * FORMATS[self.form].floor
        value = value + np.where(held, 0, noise) * self._normal(value)
        return self.stored(value) if self._is_half else value

    def sum(self, x: Array) -> Array:
        return self.product(x, np.ones((x.shape[-1], 1), x.dtype))

    def stored(self, x: Array, roundings: int = 1) -> Array:
        if self.random is None:
            return x
        format_ = FORMATS[self.form]
        held = x == _rounded(x, self.form)
        noise = format_.unit * np.sqrt(roundings / 3) * np.abs(x) + format_.floor
        return x + np.where(held, 0, noise) * self._normal(x)

    def exp(self, x: Array) -> Array:
        """With the range of the format: what overflows there is infinite, and what underflows 0."""
        limits = np.finfo(np.float32 if self.form == "bfloat16" else np.dtype(self.form))
        with np.errstate(over="ignore", under="ignore"):
            value = np.exp(self.stored(x))
        value = np.where(value > np.longdouble(limits.max), np.inf, value)
        return self.stored(np.where(value < np.longdouble(limits.smallest_subnormal) / 2, 0, value), EXP_ROUNDINGS)

    def tanh(self, x: Array) -> Array:
        return self.stored(np.tanh(x), TANH_ROUNDINGS)

    def coarse_sums(self, a: Array, b: Array) -> Array:
        value = a @ b
        if self.random is None:
            return value
        terms, unit = a.shape[-1], FORMATS["bfloat16"].unit
        noise = unit * np.sqrt((terms * (a**2 @ b**2) + terms / 3 * value**2) / 3)
        held = value == self.plain_coarse_sums(a, b)
        return value + np.where(held, 0, noise) * self._normal(value)

    def plain_coarse_sums(self, a: Array, b: Array) -> Array:
        return super().coarse_sums(a, b)

    def _held(self, value: Array, a: Array, b: Array) -> Array:
        """Whether sums of products come out free of error in the format."""
        sums = np.float64 if self.form == "float64" else np.float32
        return value == a.astype(sums) @ b.astype(sums)

    def _normal(self, x: Array) -> Array:
        assert self.random is not None
        return self.random.standard_normal(x.shape)


Change = Callable[..., Any]
"""change(right, layer, *arguments): what is done in place of right(*arguments), the layer's own step."""


def lowered(form: str) -> Change:
    """The step is taken in another format: its operands are rounded to it, and so is all that it computes."""

    def change(right: Callable[..., Any], layer: Any, *arguments: Any) -> Any:
        arithmetic = layer.arithmetic
        with arithmetic.working_in(form):
            result = right(*map(arithmetic.cast, arguments))
        return tuple(map(arithmetic.cast, result)) if isinstance(result, tuple) else arithmetic.cast(result)

    return change


def in_bits(x: Array, bits: int) -> Array:
    """The significand rounded to so many bits, as TF32 does to 11."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent).astype(x.dtype)


def rounded_to(x: Array, form: str) -> Array:
    """Rounded to a format, but kept in the dtype it had."""
    return _rounded(x, form).astype(x.dtype)


def _rounded(x: Array, form: str) -> Array:
    """As `to_format`, an overflow being infinite without a word."""
    with np.errstate(over="ignore"):
        return to_format(x, form)
