"""How arrays are moved, never computed with: axes turned and split, rows of several projections put into one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from shared_tests.tensors import Array


class Axes(NamedTuple):
    """How one array's axes become canonical rows, (out, in) or (out,), and back."""

    to_rows: Callable[[Array], Array]
    from_rows: Callable[[Array, int], Array]


AXES = {
    "out": Axes(lambda x: x, lambda rows, heads: rows),
    "heads depth": Axes(lambda x: x.reshape(-1), lambda rows, heads: rows.reshape(heads, -1)),
    "out in": Axes(lambda x: x, lambda rows, heads: rows),
    "in out": Axes(lambda x: x.T, lambda rows, heads: rows.T),
    "in heads depth": Axes(
        lambda x: x.reshape(len(x), -1).T, lambda rows, heads: rows.T.reshape(rows.shape[1], heads, -1)
    ),
    "heads depth out": Axes(
        lambda x: x.reshape(-1, x.shape[-1]).T, lambda rows, heads: rows.T.reshape(heads, -1, rows.shape[0])
    ),
}
"""By the axes of the array as it is stored."""


class Order(NamedTuple):
    """How the rows of queries, keys and values lie in one array; `width` is that of all heads of the queries."""

    split: Callable[[Array, int, int, int], list[Array]]
    join: Callable[[Sequence[Array], int], Array]


def _split_stacked(rows: Array, parts: int, width: int, heads: int) -> list[Array]:
    """One after the other; keys and values may have fewer rows than queries, and as many as each other."""
    first = width if parts == 3 else len(rows) // 2
    rest = len(rows) - first
    if rest <= 0 or rest % (parts - 1):
        raise ValueError(f"expected {width} rows for each of {parts} projections, got {len(rows)} rows")
    return np.split(rows, [first] if parts == 2 else [first, first + rest // 2])


def _split_by_group(rows: Array, parts: int, width: int, heads: int) -> list[Array]:
    """Each key head after the query heads that share it, then its value head; where none is shared: by head."""
    depth = width // heads
    groups, rest = divmod(len(rows) - width, 2 * depth)
    if rest or groups <= 0 or heads % groups:
        raise ValueError(f"expected rows of {heads} heads of {depth}, for queries, keys and values, got {len(rows)}")
    grouped = rows.reshape(groups, heads // groups + 2, depth, *rows.shape[1:])
    return [part.reshape(-1, *rows.shape[1:]) for part in (grouped[:, :-2], grouped[:, -2], grouped[:, -1])]


def _join_by_group(parts: Sequence[Array], heads: int) -> Array:
    split = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
    return np.stack(split, axis=1).reshape(-1, *parts[0].shape[1:])


BLOCKS = 4
"""CodeGen was trained on so many devices, each with rows of its own, and its files still show it."""


def _split_blocks(rows: Array, parts: int, width: int, heads: int) -> list[Array]:
    if len(rows) != parts * width or width % BLOCKS:
        raise ValueError(f"expected {parts} times {width} rows, in {BLOCKS} blocks, got {len(rows)}")
    blocks = rows.reshape(BLOCKS, parts, -1, *rows.shape[1:])
    return [blocks[:, part].reshape(-1, *rows.shape[1:]) for part in range(parts)]


def _join_blocks(parts: Sequence[Array], heads: int) -> Array:
    if len(parts[0]) % BLOCKS:
        raise ValueError(f"expected a width that {BLOCKS} divides, got {len(parts[0])}")
    split = [part.reshape(BLOCKS, -1, *part.shape[1:]) for part in parts]
    return np.stack(split, axis=1).reshape(-1, *parts[0].shape[1:])


ORDERS = {
    "stacked": Order(_split_stacked, lambda parts, heads: np.concatenate(parts)),
    "by group": Order(_split_by_group, _join_by_group),
    "blocks": Order(_split_blocks, _join_blocks),
}
"""By how several projections share one array."""


def repeated(rows: Array, depth: int, times: int) -> Array:
    """Each head's rows, `depth` of them, `times` over: head h of the result is head h // times."""
    return rows.reshape(-1, depth, *rows.shape[1:]).repeat(times, axis=0).reshape(-1, *rows.shape[1:])
