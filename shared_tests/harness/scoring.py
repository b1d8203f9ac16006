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
Gradients = dict[str, list[Rounded]]
"""By "queries" and "keys": the gradient of each head's, (batch, length, head_dim)."""


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

    def score(self, query: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        """The scores of one query (head_dim,) against every key (keys, head_dim)."""
        del parameters
        return (query / sqrt(len(query.value))) @ keys.T

    def backward(
        self, slopes: Rounded, queries: Rounded, keys: Rounded, parameters: Parameters
    ) -> tuple[Gradients, dict[str, Rounded]]:
        """Gradients of queries and keys (batch, heads, length, head_dim) and of the parameters, from the scores'."""
        del parameters
        heads, scaled = range(slopes.value.shape[1]), slopes / sqrt(queries.value.shape[-1])
        return {
            "queries": [scaled[:, h] @ keys[:, h] for h in heads],
            "keys": [scaled[:, h].swapaxes(1, 2) @ queries[:, h] for h in heads],
        }, {}


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

    def score(self, query: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        return self._features(query, keys, parameters) @ parameters["attention.w_v.weight"][0]

    def backward(
        self, slopes: Rounded, queries: Rounded, keys: Rounded, parameters: Parameters
    ) -> tuple[Gradients, dict[str, Rounded]]:
        w_v, (batch, heads, num_queries, _) = parameters["attention.w_v.weight"], slopes.value.shape
        features = slopes.zeros(*slopes.value.shape, self.num_hiddens)
        for b in range(batch):
            for h in range(heads):
                for i in range(num_queries):
                    features[b, h, i] = self._features(queries[b, h, i], keys[b, h], parameters)
        inner = slopes[..., None] * w_v[0] * features.tanh_slope()  # of what tanh was taken of
        of_query, of_key = inner.sum(axis=3), inner.sum(axis=2)
        return {
            "queries": [of_query[:, h] @ parameters["attention.W_q.weight"] for h in range(heads)],
            "keys": [of_key[:, h] @ parameters["attention.W_k.weight"] for h in range(heads)],
        }, {
            "attention.w_v.weight": flat(slopes[..., None]).T @ flat(features),
            "attention.W_q.weight": flat(of_query).T @ flat(queries),
            "attention.W_k.weight": flat(of_key).T @ flat(keys),
        }

    def _features(self, query: Rounded, keys: Rounded, parameters: Parameters) -> Rounded:
        """tanh(W_q query + W_k key), (keys, num_hiddens)."""
        of_query = query @ parameters["attention.W_q.weight"].T
        return (of_query + keys @ parameters["attention.W_k.weight"].T).tanh()


DOT_PRODUCT = DotProduct()
Scoring = DotProduct | Additive
"""Every kind there is: a new one is a class like these two, and one name here."""
