"""A small classifier of handwritten digits, to train: what it reads, where it starts, what it says.

An image is a sequence of its 8 rows, each 8 pixels and the row's place. One multi-head attention
layer looks at the rows, their mean is taken, and a linear head names the digit. The training
itself is a capability of our own subjects (`Implementation.train`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shared_tests.harness.case import DIGITS, canonical_shapes
from shared_tests.harness.rounding import Array

CLASSES = 10
EPSILON = 1e-30
"""Adam's. Keras adds it at another place than PyTorch and optax: one too small to matter makes them one."""


def initial_weights(seed: int = 0) -> dict[str, Array]:
    """Canonical weights of the layer, and the head's, uniform as Glorot & Bengio (2010) have it."""
    random = np.random.default_rng(seed)
    shapes = canonical_shapes(DIGITS) | {"head.weight": (CLASSES, DIGITS.num_hiddens)}
    weights = {}
    for name, shape in shapes.items():
        limit = np.sqrt(6 / sum(shape))
        weights[name] = random.uniform(-limit, limit, shape)
    return weights | {"head.bias": np.zeros(CLASSES)}


def batches(rows: Array, labels: Array, size: int, epochs: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Batches of rows and labels, in a new random order each epoch."""
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(rows))
        for start in range(0, len(rows), size):
            chosen = order[start : start + size]
            yield rows[chosen], labels[chosen]
