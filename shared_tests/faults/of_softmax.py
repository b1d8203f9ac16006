"""Faults of the softmax, and of rows without a key."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change
from shared_tests.faults.fault import Fault
from shared_tests.faults.of_masks import lengths
from shared_tests.harness.rounding import Array


def _rows(number: float, output: bool = False) -> dict[str, Change]:
    """Attention weights of rows without a key, or of these the output, are another number."""

    def of_weights(right: Change, layer: Any, weights: Array) -> Array:
        return np.where(layer.attended.any(-1, keepdims=True), right(weights), np.asarray(number, weights.dtype))

    def of_output(right: Change, layer: Any, x: Array) -> Array:
        kept = layer.attended.any(-1).all(1)[..., None]
        return np.where(kept, right(x), np.asarray(number, x.dtype))

    return {"rows": of_weights} | ({"output": of_output} if output else {})


def _unmasked(right: Change, layer: Any, scores: Array, attended: Array) -> Array:
    return right(scores, attended | ~attended.any(-1, keepdims=True))


def _if_any(right: Change, layer: Any, valid_lens: Array | None, shape: tuple[int, ...]) -> Array:
    return right(valid_lens if valid_lens is not None and valid_lens.any() else None, shape)


def _uniform(right: Change, layer: Any, weights: Array) -> Array:
    share = layer.arithmetic.stored(np.ones_like(weights) / layer.arithmetic.constant(weights.shape[-1]))
    return np.where(layer.attended.any(-1, keepdims=True), right(weights), share)


UNIFORM = Fault(
    "empty-rows-uniform",
    "rows",
    "rows without a key have uniform attention weights, not those claimed",
    {"rows": _uniform},
)
"""No fault but of a port that claims otherwise."""
EMPTY = "zero lengths"
ROWS = [
    Fault("empty-rows-zero", "rows", "rows without a key have attention weights 0", _rows(0.0), case=EMPTY),
    Fault(
        "empty-rows-zero",
        "rows",
        "rows without a key have attention weights and output 0",
        _rows(0.0, True),
        "and the output",
        case=EMPTY,
    ),
    Fault("empty-rows-nan", "rows", "rows without a key are NaN", _rows(np.nan), case=EMPTY),
    Fault(
        "empty-rows-unmasked",
        "rows",
        "rows without a key attend to all keys by score",
        {"masked": _unmasked},
        case=EMPTY,
    ),
    Fault(
        "empty-rows-unmasked",
        "rows",
        "nothing is masked where no entry has a key",
        {"attended": _if_any},
        "if all are",
        case="all lengths zero",
    ),
    Fault(
        "empty-rows-first-key",
        "rows",
        "rows without a key attend to the first key",
        lengths(lambda n: np.maximum(n, 1)),
        case=EMPTY,
    ),
]


def _over(axis: int) -> dict[str, Change]:
    return {"softmax": lambda right, layer, scores: right(scores.swapaxes(axis, -1)).swapaxes(axis, -1)}


def _plus(number: float) -> dict[str, Change]:
    def change(right: Change, layer: Any, powers: Array) -> Array:
        return layer.arithmetic.stored(right(powers) + layer.arithmetic.constant(number))

    return {"total": change}


def _no_shift(right: Change, layer: Any, scores: Array) -> Array:
    return scores


SOFTMAX = [
    Fault("softmax-over-queries", "softmax", "the softmax is taken over queries, not keys", _over(-2)),
    Fault("softmax-over-heads", "softmax", "the softmax is taken over heads, not keys", _over(-3)),
    Fault(
        "softmax-unshifted",
        "softmax",
        "the greatest score is not taken away before the exponential",
        {"shift": _no_shift},
        case="large magnitudes",
    ),
    Fault("softmax-plus-one", "softmax", "1 is added to the denominator of the softmax", _plus(1.0)),
    Fault(
        "softmax-plus-one",
        "softmax",
        "1 is added to the denominator of a softmax that takes no greatest score away",
        {"shift": _no_shift} | _plus(1.0),
        "unshifted",
    ),
    *(
        Fault(
            "softmax-epsilon",
            "softmax",
            f"{number:g} is added to the denominator of the softmax",
            _plus(number),
            f"{number:g}",
        )
        for number in (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
    ),
]
