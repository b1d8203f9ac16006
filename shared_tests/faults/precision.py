"""Does the gate bite? A layer in plain NumPy into which one loss of precision can be planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.harness.rounding import Array, to_format
from shared_tests.harness.subject import Subject

DOT_PRODUCTS = ("W_q", "W_k", "W_v", "scores", "context", "W_o")
ADDITIVE_PRODUCTS = ("W_q", "W_k", "W_v", "additive W_q", "additive W_k", "scores", "context", "W_o")
BACKWARD_PRODUCTS = ("dO", "dP", "dP P", "dV", "dQ", "dK", "dW_q", "dW_k", "dW_v", "dW_o", "dx")
"""Of the context, the attention weights and their mean, the heads, the parameters, and the inputs: their gradients."""


@dataclass(frozen=True)
class Fault:
    """A loss of precision: what is lost, in which step."""

    kind: str
    step: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.step}"


def faults(products: tuple[str, ...]) -> Iterator[Fault]:
    """Every fault for a layer that computes these products."""
    for product in products:
        for kind in ("left operand in 11 bits", "right operand in 11 bits", "sum in bfloat16", "float32"):
            yield Fault(kind, product)
    if products == BACKWARD_PRODUCTS:
        return
    for kind, step in (("13 bits", "exponential"), ("sum in bfloat16", "softmax"), ("float32", "softmax")):
        yield Fault(kind, step)
    if products == ADDITIVE_PRODUCTS:
        yield from (Fault("13 bits", "tanh"), Fault("float32", "tanh"))


class Faulty(Subject):
    """A right layer, but for one fault; none if it is None."""

    additive = True

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault, self.name = fault, str(fault)

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Any:
        """The model is what it was given."""
        del dtype
        return config, weights

    def forward(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """The layer's arithmetic, each product and function by a name under which it can go wrong."""
        q, k, v = self._heads(model, queries, keys, values)
        attention = self._attention(model, q, k, valid_lens)
        return self._project(model, self._joined(self._product("context", attention, v)), "W_o"), attention

    def gradients(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None, cotangent: Array
    ) -> dict[str, Array]:
        """The backward pass of dot-product attention, in the letters of Dao et al. 2022, appendix B.2."""
        (config, weights), product = model, self._product
        q, k, v = self._heads(model, queries, keys, values)
        P = self._attention(model, q, k, valid_lens)
        dO = self._split(config, product("dO", cotangent, weights["W_o.weight"]))
        dP = product("dP", dO, v.swapaxes(2, 3))
        dS = P * (dP - product("dP P", dP[..., None, :], P[..., None])[..., 0])
        if valid_lens is not None:
            dS = np.where(self._lengths(valid_lens) > 0, dS, 0)  # a uniform row depends on no score
        dS = dS / np.sqrt(q.shape[-1], dtype=q.dtype)
        by_head = {
            "W_q": (queries, product("dQ", dS, k)),
            "W_k": (keys, product("dK", dS.swapaxes(2, 3), q)),
            "W_v": (values, product("dV", P.swapaxes(2, 3), dO)),
        }
        found = self._of_parameters("W_o", config, self._joined(P @ v), cotangent)
        for (name, (x, head)), what in zip(by_head.items(), ("queries", "keys", "values"), strict=True):
            slopes = self._joined(head)
            found |= self._of_parameters(name, config, x, slopes)
            found[what] = product("dx", slopes, weights[f"{name}.weight"])
        return found

    def _of_parameters(self, name: str, config: Config, x: Array, slopes: Array) -> dict[str, Array]:
        slopes, x = (array.reshape(-1, array.shape[-1]) for array in (slopes, x))
        found = {f"{name}.weight": self._product(f"d{name}", slopes.T, x)}
        return found | ({f"{name}.bias": slopes.sum(axis=0)} if config.bias else {})

    def _heads(self, model: Any, *inputs: Array) -> list[Array]:
        names = ("W_q", "W_k", "W_v")
        return [self._split(model[0], self._project(model, x, name)) for x, name in zip(inputs, names, strict=True)]

    def _project(self, model: Any, x: Array, name: str) -> Array:
        config, weights = model
        product = self._product(name, x, weights[f"{name}.weight"].T)
        return product + weights[f"{name}.bias"] if config.bias else product

    def _split(self, config: Config, x: Array) -> Array:
        return x.reshape(*x.shape[:2], config.num_heads, config.head_dim).swapaxes(1, 2)

    def _joined(self, x: Array) -> Array:
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)

    def _lengths(self, valid_lens: Array) -> Array:
        """(batch, 1, queries or 1, 1)."""
        return valid_lens.reshape(len(valid_lens), 1, -1, 1)

    def _attention(self, model: Any, q: Array, k: Array, valid_lens: Array | None) -> Array:
        config, weights = model
        scores = self._scores(q, k, config, weights)
        if valid_lens is not None:
            masked = np.arange(k.shape[2]) >= self._lengths(valid_lens)
            scores = np.where(masked, np.finfo(scores.dtype).min, scores)
        return self._softmax(scores)

    def _scores(self, q: Array, k: Array, config: Config, weights: Mapping[str, Array]) -> Array:
        if not config.scoring.claim:
            return self._product("scores", q / np.sqrt(q.shape[-1], dtype=q.dtype), k.swapaxes(2, 3))
        of_query = self._product("additive W_q", q, weights["attention.W_q.weight"].T)
        of_key = self._product("additive W_k", k, weights["attention.W_k.weight"].T)
        features = self._function("tanh", np.tanh, of_query[:, :, :, None] + of_key[:, :, None])
        return self._product("scores", features, weights["attention.w_v.weight"].T)[..., 0]

    def _softmax(self, scores: Array) -> Array:
        powers = self._function("exponential", np.exp, scores - scores.max(axis=-1, keepdims=True))
        if self.fault == Fault("float32", "softmax"):
            powers = powers.astype(np.float32).astype(scores.dtype)
        if self.fault == Fault("sum in bfloat16", "softmax"):
            return powers / _sum_in_bfloat16(powers, np.ones((powers.shape[-1], 1), powers.dtype))
        return powers / powers.sum(axis=-1, keepdims=True)

    def _function(self, step: str, function: Callable[[Array], Array], x: Array) -> Array:
        if self.fault == Fault("13 bits", step):
            return _in_bits(function(x), 13)
        if self.fault == Fault("float32", step):
            return function(x.astype(np.float32)).astype(x.dtype)
        return function(x)

    def _product(self, step: str, a: Array, b: Array) -> Array:
        kind = self.fault.kind if self.fault is not None and self.fault.step == step else ""
        if kind == "left operand in 11 bits":
            a = _in_bits(a, 11)
        elif kind == "right operand in 11 bits":
            b = _in_bits(b, 11)
        elif kind == "sum in bfloat16":
            return _sum_in_bfloat16(a, b)
        elif kind == "float32":
            return (a.astype(np.float32) @ b.astype(np.float32)).astype(a.dtype)
        return a @ b


def _in_bits(x: Array, bits: int) -> Array:
    """Rounds the significand to so many bits, as TF32 does to 11."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent).astype(x.dtype)


def _sum_in_bfloat16(a: Array, b: Array) -> Array:
    """A product of matrices whose every partial sum is rounded to bfloat16."""
    total = np.zeros(1, np.float32)
    for k in range(a.shape[-1]):
        total = to_format(total + a[..., k, None] * b[..., k, None, :], "bfloat16")
    return total.astype(a.dtype)
