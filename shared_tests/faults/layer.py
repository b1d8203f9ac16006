"""One plain multi-head attention layer, in small steps, each of which a fault can take in its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.faults.arithmetic import Change, Plain
from shared_tests.harness.rounding import Array

PROJECTIONS = {"queries": "W_q", "keys": "W_k", "values": "W_v"}


class Layer:
    """The layer with its parameters. `changes` lists, by the name of a step, what is done in its place.

    Steps by name: "forward", "inputs", "parameters"; "product W_q" and so on for every product; "split", "scale",
    "scores", "lengths", "per head", "attended", "masked", "fill", "softmax", "shift", "exponential", "total", "rows",
    "average", "join", "output", "returned"; those of the gradients are in `backward`.
    """

    def __init__(
        self,
        config: Config,
        parameters: Mapping[str, Array],
        arithmetic: Plain,
        changes: Sequence[Mapping[str, Change]] = (),
    ) -> None:
        self.config, self.arithmetic, self.changes = config, arithmetic, changes
        self.given = parameters
        self.keep: Array | None = None
        self.stages: dict[str, Array] = {}
        self.memory: dict[Any, Any] = {}
        self.shared: dict[str, Any] = {}
        """What a fault keeps from one call to the next, and in `shared` from one model to the next."""

    def step(self, name: str, right: Callable[..., Any], *arguments: Any) -> Any:
        """The step, or what the changes make of it, the last listed outermost."""
        for changes in self.changes:
            if name in changes:
                right = partial(changes[name], right, self)
        return right(*arguments)

    def parameter(self, name: str) -> Array | None:
        array = self.parameters.get(name)
        return None if array is None else self.arithmetic.cast(array)

    def forward(self, queries: Array, keys: Array, values: Array, valid_lens: Array | None) -> tuple[Array, Array]:
        """Output (batch, queries, num_hiddens) and attention weights (batch, heads, queries, keys).

        The stages of it, under the names of the contract, are left in `stages`.
        """
        self.parameters = self.step("parameters", dict, self.given)
        self.parameters = {name: self.arithmetic.given(array) for name, array in self.parameters.items()}
        return self.step("forward", self._forward, *map(self.arithmetic.given, (queries, keys, values)), valid_lens)

    def _forward(self, queries: Array, keys: Array, values: Array, valid_lens: Array | None) -> tuple[Array, Array]:
        self.inputs = dict(zip(PROJECTIONS, self.step("inputs", _as_they_are, queries, keys, values), strict=True))
        self.stages = {f"projected_{x}": self.project(self.inputs[x], name) for x, name in PROJECTIONS.items()}
        for x in PROJECTIONS:
            self.stages[f"split_{x}"] = self.step("split", self._split, self.stages[f"projected_{x}"])
        q, k, v = (self.stages[f"split_{x}"] for x in PROJECTIONS)
        self.stages["scores"] = scores = self.step("scores", self._scores, q, k)
        self.attended = self.step("attended", self._attended, valid_lens, scores.shape)
        weights = self.step("softmax", self._softmax, self.step("masked", self._masked, scores, self.attended))
        weights = self.step("rows", _as_it_is, weights)
        self.stages["attention_weights"] = weights
        dropped = weights if self.keep is None else self.arithmetic.stored(weights * self.arithmetic.given(self.keep))
        self.stages["context"] = self.step("average", self._average, dropped, v)
        self.stages["concatenation"] = self.step("join", self._join, self.stages["context"])
        self.stages["output"] = self.step("output", partial(self.project, name="W_o"), self.stages["concatenation"])
        return self.step("returned", _as_they_are, self.stages["output"], weights)

    def product(self, name: str, a: Array, b: Array) -> Array:
        return self.step(f"product {name}", self.arithmetic.product, a, b)

    def project(self, x: Array, name: str) -> Array:
        """(batch, length, in) to (batch, length, out)."""
        weight, bias = self.parameter(f"{name}.weight"), self.parameter(f"{name}.bias")
        assert weight is not None
        product = self.product(name, x, weight.T)
        return product if bias is None else self.arithmetic.stored(product + bias)

    def _split(self, x: Array) -> Array:
        """(batch, length, heads * head_dim) to (batch, heads, length, head_dim)."""
        return x.reshape(*x.shape[:2], self.config.num_heads, self.config.head_dim).swapaxes(1, 2)

    def _join(self, x: Array) -> Array:
        """(batch, heads, length, head_dim) to (batch, length, heads * head_dim)."""
        batch, heads, length, head_dim = x.shape
        return x.swapaxes(1, 2).reshape(batch, length, heads * head_dim)

    def _scale(self, queries: Array) -> Array:
        root = self.arithmetic.constant(np.sqrt(np.longdouble(queries.shape[-1])))
        return self.arithmetic.stored(queries / root)

    def _scores(self, queries: Array, keys: Array) -> Array:
        """(batch, heads, queries, keys), before the mask."""
        if not self.config.scoring.claim:
            return self.product("scores", self.step("scale", self._scale, queries), keys.swapaxes(2, 3))
        w_v = self.parameter("attention.w_v.weight")
        assert w_v is not None
        self.features = self._features(queries, keys)
        return self.product("scores", self.features, w_v.T)[..., 0]

    def _features(self, queries: Array, keys: Array) -> Array:
        """tanh(W_q q + W_k k), (batch, heads, queries, keys, additive hidden)."""
        w_q, w_k = self.parameter("attention.W_q.weight"), self.parameter("attention.W_k.weight")
        assert w_q is not None
        assert w_k is not None
        of_queries = self.product("additive W_q", queries, w_q.T)[:, :, :, None]
        of_keys = self.product("additive W_k", keys, w_k.T)[:, :, None]
        return self.step("tanh", self.arithmetic.tanh, self.arithmetic.stored(of_queries + of_keys))

    def _attended(self, valid_lens: Array | None, shape: tuple[int, ...]) -> Array:
        """Where a query attends to a key: (batch, heads, queries, keys), of truth values."""
        if valid_lens is None:
            return np.ones(shape, bool)
        batch, heads, queries, keys = shape
        lengths = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
        lengths = self.step("lengths", _as_it_is, np.broadcast_to(lengths, (batch, queries)))
        per_head = self.step("per head", self._per_head, lengths).reshape(batch, heads, queries, 1)
        return np.arange(keys) < per_head

    def _per_head(self, lengths: Array) -> Array:
        """(batch, queries) to (batch * heads, queries)."""
        return np.repeat(lengths, self.config.num_heads, axis=0)

    def _masked(self, scores: Array, attended: Array) -> Array:
        fill = self.step("fill", lambda: self.arithmetic.lowest)
        return np.where(attended, scores, np.asarray(fill, scores.dtype))

    def _softmax(self, scores: Array) -> Array:
        """Over the last axis."""
        powers = self.step("exponential", self.arithmetic.exp, self.step("shift", _shift, scores))
        total = self.step("total", self.arithmetic.sum, powers)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.arithmetic.stored(powers / total)

    def _average(self, weights: Array, values: Array) -> Array:
        return self.product("context", weights, values)


def _shift(scores: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return scores - scores.max(axis=-1, keepdims=True, initial=-np.inf)


def _as_it_is(x: Array) -> Array:
    return x


def _as_they_are(*arrays: Array) -> tuple[Array, ...]:
    return arrays
