"""Weights as other people store them: to the canonical dict and back, bit for bit.

>>> import numpy as np
>>> weights = {f"W_{part}.weight": np.ones((12, 12), np.float32) for part in "qkvo"}
>>> arrays = to("keras", weights, num_heads=3)
>>> arrays["query/kernel"].shape
(12, 3, 4)
>>> sorted(from_("keras", arrays)) == sorted(weights)
True
"""

from __future__ import annotations

from collections.abc import Mapping

from shared_tests.layouts.layer import write
from shared_tests.layouts.search import choose, settle
from shared_tests.layouts.table import LAYOUTS, layout_named
from shared_tests.tensors import Array

__all__ = ["LAYOUTS", "from_", "to"]


def to(layout: str, weights: Mapping[str, Array], *, num_heads: int | None = None) -> dict[str, Array]:
    """Canonical weights in a layout.

    Args:
        layout: a name from `LAYOUTS`.
        weights: the canonical dict, as `export_weights` gives it.
        num_heads: how many heads there are, which some layouts need.

    Returns:
        {the layout's name: C-contiguous array}, of the same dtypes.

    Raises:
        ValueError: names the array that is missing, misshaped or not finite, or has no place in the layout.
    """
    arrays, _ = write(layout_named(layout), weights, num_heads)
    return arrays


def from_(
    layout: str, arrays: Mapping[str, Array], *, num_heads: int | None = None, prefix: str | None = None
) -> dict[str, Array]:
    """The canonical weights of a layer that is stored in a layout: what `load_weights` takes.

    Args:
        layout: a name from `LAYOUTS`.
        arrays: {name: array, or what NumPy makes one of}, such as a state dict; '.' and '/' in names are one.
        num_heads: how many heads there are, where neither shapes nor names tell and the layout needs it.
        prefix: which layer, if there are several.

    Returns:
        {canonical name: C-contiguous array}, of the same dtypes. Missing biases beside others are zeros, and keys and
        values that heads share are repeated.

    Raises:
        ValueError: names the array that is missing, misshaped, unexpected or not finite.
    """
    (group,) = choose(arrays, layout_named(layout), prefix)
    _, layer = settle(group, arrays, num_heads)
    return layer.weights
