"""Scoring functions: what a query and a key have to do with each other, each in one place.

A kind of scoring is its parameters, its score and the gradient of it, as the oracle computes them, and the name
of the module that has it in our packages. A layer's `Config` holds one; a case asks for it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from shared_tests.harness.rounding import Rounded, flat

Parameters = Mapping[str, Rounded]
Gradients = dict[str, Rounded]


@dataclass(frozen=True)
class DotProduct:
    """q . k / sqrt(head_dim), which has no parameters."""

    module: ClassVar[str] = "DotProductAttention"
    """The class in our packages."""
    claim: ClassVar[str] = ""
    """The attribute by which a subject claims it; empty for what every subject does."""

    def sizes(self, head_dim: int) -> dict[str, int]:
        """What the module's constructor takes beside its dropout."""
        del head_dim
        return {}

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """{canonical name: shape} of its parameters."""
        del head_dim
        return {}

    def score(self, queries: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        """The scores (batch, heads, queries, keys) of queries and keys (batch, heads, length, head_dim)."""
        del parameters
        return (queries / sqrt(queries.value.shape[-1])) @ keys.T

    def backward(
        self, slopes: Rounded, queries: Rounded, keys: Rounded, parameters: Parameters
    ) -> tuple[Gradients, Gradients]:
        """The gradients of "queries" and "keys" (batch, heads, length, head_dim), and of the parameters by name.

        slopes: the gradient of the scores.
        """
        del parameters
        scaled = slopes / sqrt(queries.value.shape[-1])
        return {"queries": scaled @ keys, "keys": scaled.T @ queries}, {}


@dataclass(frozen=True)
class Additive:
    """w_v . tanh(W_q q + W_k k), whose parameters all heads share."""

    num_hiddens: int
    module: ClassVar[str] = "AdditiveAttention"
    claim: ClassVar[str] = "additive"

    def sizes(self, head_dim: int) -> dict[str, int]:
        return {"key_size": head_dim, "query_size": head_dim, "num_hiddens": self.num_hiddens}

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        return {
            "attention.W_q.weight": (self.num_hiddens, head_dim),
            "attention.W_k.weight": (self.num_hiddens, head_dim),
            "attention.w_v.weight": (1, self.num_hiddens),
        }

    def score(self, queries: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        return (self._features(queries, keys, parameters) @ parameters["attention.w_v.weight"].T)[..., 0]

    def backward(
        self, slopes: Rounded, queries: Rounded, keys: Rounded, parameters: Parameters
    ) -> tuple[Gradients, Gradients]:
        features = self._features(queries, keys, parameters)
        inner = slopes[..., None] * parameters["attention.w_v.weight"][0] * features.tanh_slope()  # of tanh's argument
        of_query, of_key = inner.sum(axis=3), inner.sum(axis=2)
        return {
            "queries": of_query @ parameters["attention.W_q.weight"],
            "keys": of_key @ parameters["attention.W_k.weight"],
        }, {
            "attention.w_v.weight": flat(slopes[..., None]).T @ flat(features),
            "attention.W_q.weight": flat(of_query).T @ flat(queries),
            "attention.W_k.weight": flat(of_key).T @ flat(keys),
        }

    def _features(self, queries: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        """tanh(W_q query + W_k key), (batch, heads, queries, keys, num_hiddens)."""
        of_query, of_key = queries @ parameters["attention.W_q.weight"].T, keys @ parameters["attention.W_k.weight"].T
        return (of_query[:, :, :, None] + of_key[:, :, None]).tanh()


DOT_PRODUCT = DotProduct()
Scoring = DotProduct | Additive
"""Every kind there is: a new one is a class like these two, and one name here."""
