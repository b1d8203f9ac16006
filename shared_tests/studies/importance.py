"""How important each head of a model is by several measures, whether the measures agree, and whether frameworks do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from shared_tests.harness.rounding import Array
from shared_tests.studies.experiment import Experiment, Recorded, gradient
from shared_tests.studies.heads import confidence, entropy, leave_one_out

GRADIENT, LEFT_OUT, ENTROPY, CONFIDENCE = "gradient", "leave one out", "entropy", "confidence"
EITHER_WAY = f"|{LEFT_OUT}|"
Measures = dict[str, Array]
"""By name, (layers, heads)."""


def measures(experiment: Experiment, recorded: Sequence[Recorded], advance: Callable[[str], None]) -> Measures:
    """By gradient; by the rise of the loss when the head alone is removed; and two from attention weights alone."""
    layers, heads = experiment.shape
    found = {GRADIENT: gradient(experiment.subject, experiment.whole, recorded)}

    def gain(removed: tuple[int, ...]) -> float:
        advance(f"{experiment.name}: {LEFT_OUT}")
        return -float(experiment.losses(removed).mean())

    found[LEFT_OUT] = leave_one_out(gain, layers * heads).reshape(layers, heads)
    for name, measure in ((ENTROPY, entropy), (CONFIDENCE, confidence)):
        found[name] = np.array([measure(one.attention_weights, one.valid_lens) for one in recorded])
    return found


def steps(experiment: Experiment) -> int:
    """How often `measures` advances."""
    layers, heads = experiment.shape
    return 1 + layers * heads


def rankings(found: Measures) -> dict[str, list[int]]:
    """All heads by each measure, the least important first: those of high entropy come first."""
    signs = {ENTROPY: -1}
    numbers = {name: signs.get(name, 1) * x.ravel() for name, x in compared(found).items()}
    return {name: np.argsort(x, kind="stable").tolist() for name, x in numbers.items()}


def correlations(found: Measures) -> dict[tuple[str, str], float]:
    """Spearman's rank correlation of each two measures, over all heads."""
    pairs = combinations(compared(found).items(), 2)
    return {(left, right): spearman(x.ravel(), y.ravel()) for (left, x), (right, y) in pairs}


def compared(found: Measures) -> Measures:
    """The measures; and how far the loss moves either way, if it falls without some of the heads."""
    change = found[LEFT_OUT]
    return {**found, EITHER_WAY: np.abs(change)} if (change < 0).any() else found


def spearman(left: Array, right: Array) -> float:
    """The correlation of two arrays' ranks, in which equal numbers share their mean rank; NaN if all are equal.

    >>> spearman([1.0, 2.0, 9.0], [5.0, 7.0, 8.0])
    1.0
    """
    x, y = (ranks(values) - np.mean(ranks(values)) for values in (left, right))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else float("nan")


def ranks(values: Any) -> Array:
    """Ranks from 1 of numbers, of which equal ones share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Array = (last - (counts - 1) / 2)[place]
    return mean


def apart(found: Array, other: Array) -> float:
    """The largest relative difference of two importances."""
    return float(np.max(np.abs(found - other) / np.maximum(np.abs(other), np.finfo(np.float64).tiny)))
