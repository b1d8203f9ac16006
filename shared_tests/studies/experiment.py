"""A trained model whose heads are weighed and then removed: what any such experiment has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import offers

DTYPE = "float64"
Heads = Collection[int]
"""Heads of all layers, counted from 0 through the model: layer * heads of a layer + head."""


@dataclass(frozen=True)
class Recorded:
    """What went through one layer's attention of the data that heads are weighed on."""

    batches: list[tuple[Array | None, ...]]
    """For each example (queries, keys, values, valid_lens, gradient of its loss by the output)."""
    attention_weights: Array
    """(sequences, heads, queries, keys)."""
    valid_lens: Array | None = None
    """(sequences, queries): 0 for a query that is padding."""


class Experiment:
    """A model with layers of one subject; a subclass knows its data. Importance is that for its loss."""

    name: str
    quality_of: str
    """What the quality is, in words."""

    def __init__(self, subject: Any, config: Config, weights: Sequence[Mapping[str, Array]]) -> None:
        for method in ("head_importance", "prune_heads"):
            if not offers(subject, method):
                raise ValueError(f"--subject: expected one that offers {method}, got {subject.name}")
        self.subject, self.config, self.weights = subject, config, weights
        self.whole = self.layers(subject)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and heads in each."""
        return len(self.weights), self.config.num_heads

    def layers(self, subject: Any) -> list[Any]:
        """The model's layers of attention, by any subject."""
        return [subject.build(self.config, weights, DTYPE) for weights in self.weights]

    def pruned(self, removed: Heads) -> list[Any]:
        """The layers, pruned for real; each must keep a head."""
        num_heads = self.config.num_heads
        gone = [[one % num_heads for one in sorted(removed) if one // num_heads == i] for i in range(len(self.whole))]
        pairs = zip(self.whole, gone, strict=True)
        return [self.subject.prune_heads(layer, heads) if heads else layer for layer, heads in pairs]

    def recorded(self) -> list[Recorded]:
        """For each layer, what went through it."""
        raise NotImplementedError

    def losses(self, removed: Heads) -> Array:
        """The loss of each example that heads are weighed on, (examples,)."""
        raise NotImplementedError

    def quality(self, removed: Heads) -> float:
        """How good the pruned model is, on data of its own; larger is better."""
        raise NotImplementedError

    def weighed_again(self) -> Iterable[int]:
        """The heads by gradient, least important first, each weighed after those before it were removed; or none."""
        return ()


def gradient(subject: Any, layers: Sequence[Any], recorded: Sequence[Recorded]) -> Array:
    """The importance of heads by gradients (Michel et al. 2019), (layers, heads), by a subject of these its layers."""
    pairs = zip(layers, recorded, strict=True)
    return np.array([subject.head_importance(layer, one.batches) for layer, one in pairs])
