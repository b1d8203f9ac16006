"""What `--check` and the goldens ask of a layer that other people made."""

from __future__ import annotations

from typing import Any

import numpy as np


class OthersLayer:
    """One kind of layer: built, given arrays in its own layout, and called with NumPy arrays."""

    self_attention = False
    """Whether queries, keys and values are one array to it."""
    keys_are_values = False
    """Whether keys and values are one array to it."""
    causal = False
    """Whether a query attends only to what is not after it."""
    scaled = True
    """Whether scores are divided by sqrt(head_dim)."""
    without = ""
    """What was switched off in it, since our function has not got it."""

    def build(self, config: Any) -> Any:
        """A layer of these sizes, with parameters of its own drawing."""
        raise NotImplementedError

    def load(self, layer: Any, arrays: dict[str, np.ndarray]) -> Any:
        """The layer with these parameters: all of its own, and no others."""
        raise NotImplementedError

    def state(self, layer: Any) -> dict[str, np.ndarray]:
        """Its parameters, by the names that it stores them by."""
        raise NotImplementedError

    def forward(self, layer: Any, queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The output, in float32."""
        raise NotImplementedError
