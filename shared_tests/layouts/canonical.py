"""The canonical dict: its sizes, and what must hold of it before it is stored by anybody."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared_tests.layouts.layout import ADDITIVE, BIASES, WEIGHTS, Layout
from shared_tests.tensors import Array, is_bfloat16, is_float

SIZE_OF = {"query_size": "W_q.weight", "key_size": "W_k.weight", "value_size": "W_v.weight", "width": "W_o.weight"}


class Sizes(NamedTuple):
    """Sizes that the shapes tell; num_hiddens is 0 where there is no W_o."""

    query_size: int
    key_size: int
    value_size: int
    width: int
    num_hiddens: int


def check_numbers(name: str, array: Array) -> None:
    """Raises ValueError unless the array holds finite floating numbers of a dtype that is carried."""
    if not is_float(array.dtype):
        dtype = array.dtype.names[0] if array.dtype.names else array.dtype
        raise ValueError(f"{name}: expected float64, float32, float16 or bfloat16, got {dtype}")
    if is_bfloat16(array.dtype):
        finite = np.ascontiguousarray(array).view(np.uint16) & 0x7F80 != 0x7F80
    else:
        finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(f"{name}: expected finite numbers, got {int((~finite).sum())} that are not")


def sizes(weights: Mapping[str, Array], names: Mapping[str, str] | None = None, grouped: bool = False) -> Sizes:
    """The sizes of the layer. Raises ValueError, naming the array, where shapes contradict each other.

    names: what arrays are called in the file, for the error. grouped: keys and values may have fewer heads.
    """
    names = names or {}
    widths = {name: weights[name].shape[name == "W_o.weight"] for name in WEIGHTS if name in weights}
    counts = list(widths.values())
    width = widths["W_q.weight"] if grouped else max(counts, key=counts.count)
    for name, found in widths.items():
        if found != width and not (grouped and name in WEIGHTS[1:3]):
            what = "inputs" if name == "W_o.weight" else "outputs"
            raise ValueError(f"{names.get(name, name)}: expected {width} {what}, as others have, got {found}")
    for name in BIASES:
        rows = weights[name.replace("bias", "weight")].shape[:1] if name in weights else ()
        if name in weights and weights[name].shape != rows:
            raise ValueError(f"{names.get(name, name)}: expected shape {rows}, got {weights[name].shape}")
    query_size, key_size, value_size = (weights[name].shape[1] for name in WEIGHTS[:3])
    num_hiddens = weights["W_o.weight"].shape[0] if "W_o.weight" in weights else 0
    return Sizes(query_size, key_size, value_size, width, num_hiddens)


def check_complete(weights: Mapping[str, Array], output: bool = True) -> None:
    """Raises ValueError unless these are all weights of a layer, and no bias or all of them.

    output: whether W_o is among them.
    """
    if unknown := sorted(set(weights) - {*WEIGHTS, *BIASES, *ADDITIVE}):
        raise ValueError(f"{unknown[0]}: expected canonical names, such as W_q.weight, got another")
    if missing := [name for name in wanted(weights, output) if name not in weights]:
        raise ValueError(f"{', '.join(missing)}: missing")
    for name, array in weights.items():
        axes = 1 if name.endswith("bias") else 2
        if array.ndim != axes or not array.size:
            raise ValueError(f"{name}: expected {axes} axes, none of size 0, got shape {array.shape}")
        check_numbers(name, array)


def wanted(present: Collection[str], output: bool = True) -> list[str]:
    """Canonical names of a whole layer that has, of biases and of additive scoring, all or none."""
    groups = [WEIGHTS, *(group for group in (BIASES, ADDITIVE) if set(group) & set(present))]
    return [name for group in groups for name in group if output or not name.startswith("W_o")]


def check_fits(layout: Layout, found: Sizes, names: Mapping[str, str] | None = None) -> None:
    """Raises ValueError if the layout's layer has no place for these sizes."""
    for size in layout.hidden if found.num_hiddens else ():
        number = getattr(found, size)
        if number != found.num_hiddens:
            name = (names or {}).get(SIZE_OF[size], SIZE_OF[size])
            what = "heads * head_dim" if size == "width" else size
            raise ValueError(
                f"{name}: expected {what} to be num_hiddens, {found.num_hiddens}, in layout {layout.name}, got {number}"
            )
    if layout.same_keys and found.key_size != found.value_size:
        raise ValueError(
            f"W_k.weight, W_v.weight: expected key_size to be value_size in layout {layout.name}, "
            f"got {found.key_size} and {found.value_size}"
        )


def check_heads(width: int, num_heads: int | None) -> None:
    """Raises ValueError if there cannot be so many heads."""
    if num_heads is not None and (num_heads < 1 or width % num_heads):
        raise ValueError(f"heads: expected a number of heads that divides {width}, got {num_heads}")


def without_heads(weights: Mapping[str, Array], heads: Sequence[int], head_dim: int) -> dict[str, Array]:
    """The weights without some heads, from 0: without their rows of W_q, W_k and W_v, and their columns of W_o."""
    rows = [row for head in heads for row in range(head * head_dim, (head + 1) * head_dim)]
    axes = {name: 1 if name.startswith("W_o") else 0 for name in (*WEIGHTS, *BIASES[:3]) if name in weights}
    return {**weights, **{name: np.delete(weights[name], rows, axis=axis) for name, axis in axes.items()}}
