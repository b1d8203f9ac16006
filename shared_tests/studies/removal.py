"""How good a model is with ever fewer heads: removed by importance, in reverse, at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared_tests.studies.experiment import Experiment, Heads
from shared_tests.studies.importance import GRADIENT

LEAST, MOST = "least first", "most first"
RANDOM, AGAIN = "at random", "gradient, weighed again"
POINTS = 12
"""At about how many numbers of removed heads a curve is measured."""


@dataclass(frozen=True)
class Order:
    """An order in which heads are removed."""

    measure: str
    """Of importance; RANDOM; or AGAIN: by gradient, after each removal anew."""
    direction: str
    """LEAST, MOST, or of RANDOM "seed 0", …"""
    heads: list[int]
    """Counted from 0 through the model; each layer keeps one."""


@dataclass(frozen=True)
class Curve:
    """The quality of a model against the number of heads removed."""

    order: Order
    removed: list[int]
    quality: list[float]
    epochs: int = 0
    """Of training after heads were removed."""


@dataclass
class Removal:
    """All curves of an experiment.

    retrained: what training the pruned model makes of the quality, if that is done: `epochs` of it.
    """

    experiment: Experiment
    seeds: int
    retrained: Callable[[Heads], float] | None = None
    epochs: int = 0

    def orders(self, rankings: Mapping[str, Sequence[int]]) -> list[Order]:
        """Each ranking, least important first, from both its ends; weighed again, if the model is small; random."""
        layers, heads = self.experiment.shape
        found = []
        for measure, ranking in rankings.items():
            found.append(Order(measure, LEAST, removable(ranking, heads)))
            found.append(Order(measure, MOST, removable(ranking[::-1], heads)))
        if again := list(self.experiment.weighed_again()):
            found.append(Order(AGAIN, LEAST, removable(again, heads)))
        for seed in range(self.seeds):
            ranking = np.random.default_rng(seed).permutation(layers * heads).tolist()
            found.append(Order(RANDOM, f"seed {seed}", removable(ranking, heads)))
        return found

    def curves(self, orders: Sequence[Order]) -> Iterator[Curve]:
        """By every order; after training by those of the gradient and by random ones."""
        for order in orders:
            yield self._curve(order, self.experiment.quality)
        for order in orders if self.retrained else ():
            if order.measure in (GRADIENT, RANDOM):
                assert self.retrained is not None
                yield self._curve(order, self.retrained, self.epochs)

    def number(self, orders: Sequence[Order]) -> int:
        """How many curves there are."""
        return len(orders) + (sum(one.measure in (GRADIENT, RANDOM) for one in orders) if self.retrained else 0)

    def _curve(self, order: Order, quality: Callable[[Heads], float], epochs: int = 0) -> Curve:
        removed = points(self.experiment)
        return Curve(order, removed, [quality(order.heads[:number]) for number in removed], epochs)


def removable(ranking: Sequence[int], heads: int) -> list[int]:
    """The ranking without the head of each layer that comes last in it, since a layer keeps one.

    >>> removable([3, 2, 0, 1], heads=2)
    [3, 0]
    """
    kept = {head // heads: head for head in ranking}.values()
    return [head for head in ranking if head not in kept]


def points(experiment: Experiment) -> list[int]:
    """How many heads are removed at each point of a curve."""
    layers, heads = experiment.shape
    return list(range(0, layers * (heads - 1) + 1, max(1, layers * heads // POINTS)))
