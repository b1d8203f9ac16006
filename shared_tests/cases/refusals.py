"""The contract's table of bad inputs (clause group 6): what is wrong, and the error's type and words.

A row starts from a good call and changes some of its arguments. An array is written as its
shape, or as (shape, dtype).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SIZES = {
    "key_size": 7,
    "query_size": 5,
    "value_size": 11,
    "num_hiddens": 12,
    "num_heads": 3,
    "dropout": 0.0,
}
ADDITIVE_SIZES = {"key_size": 7, "query_size": 5, "num_hiddens": 13, "dropout": 0.0}
ARRAYS = {
    "queries": ((2, 4, 5), "float32"),
    "keys": ((2, 6, 7), "float32"),
    "values": ((2, 6, 11), "float32"),
    "valid_lens": ((2,), "int32"),
}
BATCH = tuple(np.ones(shape, np.float32) for shape in ((2, 4, 5), (2, 6, 7), (2, 6, 11)))


@dataclass(frozen=True)
class Module:
    """A module to be made: the class, and what its constructor takes."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Mesh:
    """A mesh of devices to be made, of which none is used: how many there are along each axis."""

    shape: tuple[int, ...]


GOOD: dict[str, dict[str, Any]] = {
    "MultiHeadAttention": SIZES,
    "AdditiveAttention": ADDITIVE_SIZES,
    "DotProductAttention": {"dropout": 0.0},
    "masked_softmax": {"scores": ((2, 4, 6), "float32"), "valid_lens": ((2,), "int32")},
    "transpose_qkv": {"x": ((2, 4, 12), "float32"), "num_heads": 3},
    "transpose_output": {"x": ((6, 4, 4), "float32"), "num_heads": 3},
    "attend": ARRAYS,
    "attend by dot product": ARRAYS | {"keys": ((2, 6, 5), "float32")},
    "attend additively": ARRAYS,
    "attend, fused": ARRAYS | {"keys": ((2, 6, 5), "float32"), "need_weights": False},
    "head_importance": {"loss": lambda layer, *batch: layer(*batch)[0, 0, 0], "batches": [BATCH]},
    "prune_heads": {"heads": [0, 2]},
    "shard": {"layer": Module("MultiHeadAttention", tuple(SIZES.values())), "mesh": Mesh((3,))},
}
"""Calls that are accepted: constructors, functions, and calls of a layer."""
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(("head_importance", "prune_heads"), ("MultiHeadAttention", SIZES)),
    "attend": ("MultiHeadAttention", SIZES),
    "attend by dot product": ("DotProductAttention", {"dropout": 0.0}),
    "attend additively": ("AdditiveAttention", ADDITIVE_SIZES),
    "attend, fused": ("FusedDotProductAttention", {"dropout": 0.0}),
}
"""The layer that a call is of: its class, and what made it."""


@dataclass(frozen=True)
class Refusal:
    """A good call with some arguments changed, and the error that it raises."""

    number: str
    call: str
    changes: dict[str, Any]
    error: type[Exception]
    words: str


def _rows(group: str, *rows: tuple[str, dict[str, Any], type[Exception], str]) -> list[Refusal]:
    return [Refusal(f"{group}.{i}", *row) for i, row in enumerate(rows, 1)]


MULTIHEAD, ATTEND = "MultiHeadAttention", "attend"
REFUSALS = [
    *_rows(
        "6.1",  # sizes and probabilities
        (MULTIHEAD, {"num_hiddens": 0}, ValueError, "num_hiddens: expected at least 1, got 0"),
        (MULTIHEAD, {"num_heads": 0}, ValueError, "num_heads: expected at least 1, got 0"),
        (MULTIHEAD, {"num_heads": -3}, ValueError, "num_heads: expected at least 1, got -3"),
        (MULTIHEAD, {"key_size": 0}, ValueError, "key_size: expected at least 1, got 0"),
        (MULTIHEAD, {"query_size": 0}, ValueError, "query_size: expected at least 1, got 0"),
        (MULTIHEAD, {"value_size": -1}, ValueError, "value_size: expected at least 1, got -1"),
        (MULTIHEAD, {"num_heads": 2.0}, TypeError, "num_heads: expected an integer, got 2.0"),
        (MULTIHEAD, {"num_hiddens": "12"}, TypeError, "num_hiddens: expected an integer, got '12'"),
        (MULTIHEAD, {"num_heads": True}, TypeError, "num_heads: expected an integer, got True"),
        (MULTIHEAD, {"num_heads": 5}, ValueError, "num_hiddens: expected a multiple of num_heads 5, got 12"),
        (MULTIHEAD, {"dropout": 1.0}, ValueError, "dropout: expected a number in [0, 1), got 1.0"),
        (MULTIHEAD, {"dropout": -0.1}, ValueError, "dropout: expected a number in [0, 1), got -0.1"),
        (MULTIHEAD, {"dropout": float("nan")}, ValueError, "dropout: expected a number in [0, 1), got nan"),
        (MULTIHEAD, {"dropout": None}, TypeError, "dropout: expected a number, got None"),
        ("DotProductAttention", {"dropout": 1}, ValueError, "dropout: expected a number in [0, 1), got 1"),
        ("AdditiveAttention", {"dropout": 2.0}, ValueError, "dropout: expected a number in [0, 1), got 2.0"),
        ("AdditiveAttention", {"num_hiddens": 0}, ValueError, "num_hiddens: expected at least 1, got 0"),
        (MULTIHEAD, {"head_dim": 0}, ValueError, "head_dim: expected at least 1, got 0"),
        (MULTIHEAD, {"head_dim": 4.0}, TypeError, "head_dim: expected an integer, got 4.0"),
        (
            MULTIHEAD,
            {"dropout": 0.1, "attention": Module("FusedDotProductAttention", (0.0,))},
            ValueError,
            "attention: expected dropout 0.1, as the layer's, got 0.0",
        ),
        (
            MULTIHEAD,
            {"dropout": 0.0, "attention": Module("DotProductAttention", (0.5,))},
            ValueError,
            "attention: expected dropout 0.0, as the layer's, got 0.5",
        ),
    ),
    *_rows(
        "6.2",  # the helpers
        ("transpose_qkv", {"x": (4, 12)}, ValueError, "x: expected rank 3 (batch, length, hidden), got shape (4, 12)"),
        ("transpose_qkv", {"num_heads": 5}, ValueError, "x: hidden: expected a multiple of num_heads 5, got 12"),
        ("transpose_qkv", {"num_heads": 0}, ValueError, "num_heads: expected at least 1, got 0"),
        (
            "transpose_output",
            {"x": (6, 4)},
            ValueError,
            "x: expected rank 3 (batch*heads, length, head_dim), got shape (6, 4)",
        ),
        ("transpose_output", {"num_heads": 4}, ValueError, "x: batch*heads: expected a multiple of num_heads 4, got 6"),
        (
            "masked_softmax",
            {"scores": (2, 6)},
            ValueError,
            "scores: expected rank 3 (batch, queries, keys), got shape (2, 6)",
        ),
        ("masked_softmax", {"scores": (2, 4, 0)}, ValueError, "scores: expected at least 1 key, got 0"),
        ("masked_softmax", {"scores": ((2, 4, 6), "int32")}, TypeError, "scores: expected float dtype, got int32"),
        ("masked_softmax", {"valid_lens": (3,)}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got (3,)"),
        ("masked_softmax", {"valid_lens": ()}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got ()"),
        (
            "masked_softmax",
            {"valid_lens": ((2,), "bool")},
            TypeError,
            "valid_lens: expected int dtype, got bool",
        ),
        ("masked_softmax", {"valid_lens": [3, 2]}, TypeError, "valid_lens: expected an array, got list"),
    ),
    *_rows(
        "6.3",  # calls of the layer
        (ATTEND, {"queries": (2, 5)}, ValueError, "queries: expected rank 3 (batch, queries, width), got shape (2, 5)"),
        (ATTEND, {"keys": (6, 7)}, ValueError, "keys: expected rank 3 (batch, keys, width), got shape (6, 7)"),
        (
            ATTEND,
            {"values": (2, 6, 11, 1)},
            ValueError,
            "values: expected rank 3 (batch, keys, width), got shape (2, 6, 11, 1)",
        ),
        (ATTEND, {"queries": (2, 4, 7)}, ValueError, "queries: expected width 5, got 7"),
        (ATTEND, {"keys": (2, 6, 5)}, ValueError, "keys: expected width 7, got 5"),
        (ATTEND, {"values": (2, 6, 7)}, ValueError, "values: expected width 11, got 7"),
        (ATTEND, {"keys": (3, 6, 7)}, ValueError, "keys: expected batch 2, got 3"),
        (ATTEND, {"values": (1, 6, 11)}, ValueError, "values: expected batch 2, got 1"),
        (ATTEND, {"values": (2, 5, 11)}, ValueError, "values: expected length 6, got 5"),
        (ATTEND, {"keys": (2, 0, 7), "values": (2, 0, 11)}, ValueError, "keys: expected at least 1 key, got 0"),
        (ATTEND, {"queries": ((2, 4, 5), "int32")}, TypeError, "queries: expected float dtype, got int32"),
        (ATTEND, {"valid_lens": ((2,), "float32")}, TypeError, "valid_lens: expected int dtype, got float32"),
        (ATTEND, {"valid_lens": (3,)}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got (3,)"),
        (ATTEND, {"valid_lens": (2, 6)}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got (2, 6)"),
        (ATTEND, {"valid_lens": (2, 4, 1)}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got (2, 4, 1)"),
        ("attend by dot product", {"keys": (2, 6, 7)}, ValueError, "keys: expected width 5, got 7"),
        ("attend additively", {"queries": (2, 4, 7)}, ValueError, "queries: expected width 5, got 7"),
        ("attend additively", {"values": (2, 5, 11)}, ValueError, "values: expected length 6, got 5"),
        ("attend, fused", {"keys": (2, 6, 7)}, ValueError, "keys: expected width 5, got 7"),
        ("attend, fused", {"valid_lens": (3,)}, ValueError, "valid_lens: expected shape (2,) or (2, 4), got (3,)"),
        (
            "attend, fused",
            {"need_weights": True},
            ValueError,
            "need_weights: expected False of FusedDotProductAttention, got True; DotProductAttention has them",
        ),
    ),
    *_rows(
        "6.4",  # heads
        ("prune_heads", {"heads": [3]}, ValueError, "heads: expected 0 to 2, got 3"),
        ("prune_heads", {"heads": [0, -1]}, ValueError, "heads: expected 0 to 2, got -1"),
        ("prune_heads", {"heads": [1, 0, 1]}, ValueError, "heads: expected each head once, got 1 more than once"),
        ("prune_heads", {"heads": [0, 1, 2]}, ValueError, "heads: expected at least 1 of 3 to stay, got all"),
        ("prune_heads", {"heads": [1.0]}, TypeError, "heads: expected an integer, got 1.0"),
        ("prune_heads", {"heads": [True]}, TypeError, "heads: expected an integer, got True"),
        ("prune_heads", {"heads": 1}, TypeError, "heads: expected an iterable of integers, got int"),
        ("head_importance", {"batches": []}, ValueError, "batches: expected at least 1, got 0"),
        (
            "head_importance",
            {"batches": [{"queries": None}]},
            TypeError,
            "batches: expected tuples of what the loss takes, got dict",
        ),
        (
            "head_importance",
            {"loss": lambda layer, *batch: layer(*batch)[0, 0]},
            ValueError,
            "loss: expected rank 0 (), got shape (12,)",
        ),
        ("head_importance", {"loss": lambda layer, *batch: 1.0}, TypeError, "loss: expected an array, got float"),
        (
            "head_importance",
            {"loss": lambda layer, queries, *rest: queries[0, 0, 0]},
            ValueError,
            "loss: expected to depend on the layer that it is given, got gradient 0 of W_o",
        ),
    ),
    *_rows(
        "6.5",  # several devices
        ("shard", {"mesh": Mesh((2,))}, ValueError, "num_heads: expected a multiple of 2 devices, got 3"),
        ("shard", {"mesh": Mesh((3, 1))}, ValueError, "mesh: expected 1 axis, got 2"),
        ("shard", {"mesh": 3}, TypeError, "mesh: expected a mesh of devices, got int"),
        (
            "shard",
            {"layer": Module("DotProductAttention", (0.0,))},
            TypeError,
            "layer: expected a MultiHeadAttention that is not sharded, got DotProductAttention",
        ),
    ),
]


def arguments(call: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The good arguments of a call with these changes, arrays as zeros of the shape they are written as."""
    good = GOOD[call]
    return {
        name: _array(given, good[name][1]) if isinstance(given, tuple) else given
        for name, given in (good | changes).items()
    }


def _array(written: Any, dtype: str) -> Any:
    if len(written) == 2 and isinstance(written[0], tuple):
        written, dtype = written
    return np.zeros(written, dtype)
