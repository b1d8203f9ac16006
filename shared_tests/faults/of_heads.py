"""Faults of heads and of the scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change
from shared_tests.faults.fault import BY_WEIGHTS, Fault
from shared_tests.harness.rounding import Array


def _interleaved(right: Change, layer: Any, x: Array) -> Array:
    return x.reshape(*x.shape[:2], layer.config.head_dim, layer.config.num_heads).transpose(0, 3, 1, 2)


def _viewed(right: Change, layer: Any, x: Array) -> Array:
    return x.reshape(len(x), layer.config.num_heads, x.shape[1], layer.config.head_dim)


def _view_joined(right: Change, layer: Any, x: Array) -> Array:
    batch, heads, length, head_dim = x.shape
    return x.reshape(batch, length, heads * head_dim)


def _join_interleaved(right: Change, layer: Any, x: Array) -> Array:
    batch, heads, length, head_dim = x.shape
    return x.transpose(0, 2, 3, 1).reshape(batch, length, heads * head_dim)


def _returned(edit: Callable[[Array], Array]) -> dict[str, Change]:
    return {"returned": lambda right, layer, output, weights: right(output, edit(weights))}


def _averaged(edit: Callable[[Array, int], Array]) -> dict[str, Change]:
    """What is returned is made of the mean over heads, (batch, 1, queries, keys), and the number of heads."""

    def change(right: Change, layer: Any, output: Array, weights: Array) -> Any:
        total = layer.arithmetic.sum(np.moveaxis(weights, 1, -1))
        mean = layer.arithmetic.stored(total / layer.arithmetic.constant(weights.shape[1]))
        return right(output, edit(np.moveaxis(mean, -1, 1), weights.shape[1]))

    return {"returned": change}


AVERAGED = "the attention weights that are returned are averaged over heads"
REVERSED = "the attention weights that are returned are those of the heads in reverse"
VIEWED = "heads are split by a reshape without a transpose"
HEADS = [
    Fault("heads-interleaved", "heads", "head h is every num_heads-th column, not a block", {"split": _interleaved}),
    Fault("heads-view-split", "heads", VIEWED, {"split": _viewed}),
    Fault(
        "heads-view-split",
        "heads",
        f"{VIEWED}, and joined so",
        {"split": _viewed, "join": _view_joined},
        "and joined so",
    ),
    Fault(
        "heads-view-split", "heads", "heads are joined by a reshape without a transpose", {"join": _view_joined}, "join"
    ),
    Fault(
        "heads-joined-interleaved",
        "heads",
        "heads are joined column by column, not one behind the other",
        {"join": _join_interleaved},
    ),
    Fault(
        "heads-reversed",
        "heads",
        "heads are joined in reverse",
        {"join": lambda right, layer, x: right(x[:, ::-1])},
    ),
    Fault(
        "attention-weights-averaged", "heads", AVERAGED, _averaged(lambda mean, heads: mean[:, 0]), shown_by=BY_WEIGHTS
    ),
    Fault(
        "attention-weights-averaged",
        "heads",
        f"{AVERAGED}, and repeated",
        _averaged(lambda mean, heads: mean.repeat(heads, axis=1)),
        "repeated",
        shown_by=BY_WEIGHTS,
    ),
    Fault(
        "attention-weights-averaged",
        "heads",
        AVERAGED,
        _averaged(lambda mean, heads: mean),
        "as one head",
        shown_by=BY_WEIGHTS,
    ),
    Fault("attention-weights-reversed", "heads", REVERSED, _returned(lambda w: w[:, ::-1]), shown_by=BY_WEIGHTS),
    Fault(
        "attention-weights-flattened",
        "heads",
        "the attention weights that are returned are (batch * heads, queries, keys)",
        _returned(lambda w: w.reshape(w.shape[0] * w.shape[1], *w.shape[2:])),
        shown_by=BY_WEIGHTS,
    ),
    Fault(
        "values-of-next-key",
        "heads",
        "each attention weight is given to the next key's value",
        {"average": lambda right, layer, weights, values: right(weights, np.roll(values, 1, axis=2))},
    ),
]


def _scaled_by(divisor: Callable[[Any], Any]) -> dict[str, Change]:
    """The scores are divided by this, not by the root of head_dim."""
    return {"scale": lambda right, layer, q: layer.arithmetic.stored(q / layer.arithmetic.constant(divisor(layer)))}


def _root(number: int) -> Any:
    return np.sqrt(np.longdouble(number))


SCALE = [
    Fault("scale-missing", "scale", "scores are not scaled", {"scale": lambda right, layer, q: q}),
    Fault(
        "scale-of-hidden",
        "scale",
        "scores are divided by the root of num_hiddens, not of head_dim",
        _scaled_by(lambda layer: _root(layer.config.num_hiddens)),
    ),
    Fault(
        "scale-of-hidden",
        "scale",
        "scores are divided by the root of the queries' width, not of head_dim",
        _scaled_by(lambda layer: _root(layer.config.query_size)),
        "query_size",
    ),
    Fault(
        "scale-of-equal-heads",
        "scale",
        "scores are divided by the root of num_hiddens / num_heads, which is not head_dim where heads are pruned",
        _scaled_by(lambda layer: np.sqrt(np.longdouble(layer.config.num_hiddens) / layer.config.num_heads)),
        case="heads wider than hidden",
    ),
    Fault(
        "scale-twice",
        "scale",
        "scores are divided by the root of head_dim twice",
        {"scale": lambda right, layer, q: right(right(q))},
    ),
    Fault(
        "scale-float32",
        "scale",
        "the root of head_dim is rounded to float32",
        _scaled_by(lambda layer: np.float32(_root(layer.config.head_dim))),
        case="book",
    ),
    Fault(
        "scale-float32",
        "scale",
        "1 / the root of head_dim is rounded to float32",
        _scaled_by(lambda layer: 1 / np.longdouble(np.float32(1 / _root(layer.config.head_dim)))),
        "its inverse",
        case="book",
    ),
]
