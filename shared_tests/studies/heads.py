"""What each head of a layer does, measured: from attention weights alone, or with a user's own metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shared_tests.harness.rounding import Array


def entropy(attention_weights: Any, valid_lens: Any = None) -> Array:
    """How widely each head spreads its attention: the mean of -sum(w log w) over queries, in nats.

    0: each query attends to one key. log(n): evenly to n keys. Queries without a valid key are left out, so a valid
    length of 0 leaves out a query that is padding.

    Args:
        attention_weights: (batch, heads, queries, keys).
        valid_lens: (batch,) or (batch, queries), integers.

    Returns:
        (heads,)

    Raises:
        ValueError: an array of the wrong shape, or no query with a valid key.
        TypeError: valid_lens that are no integers.

    Example:
        >>> import numpy as np
        >>> entropy(np.full((1, 2, 3, 4), 0.25)) / np.log(4)
        array([1., 1.])
    """
    weights = as_weights(attention_weights)
    logarithms = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return _mean(-(weights * logarithms).sum(axis=-1), weights, valid_lens)


def confidence(attention_weights: Any, valid_lens: Any = None) -> Array:
    """How sure each head is of one key: the mean over queries of the largest attention weight.

    1: each query attends to one key. 1/n: evenly to n keys. After Voita et al. 2019, section 4, who leave out the
    end-of-sentence symbol; here all keys count. Queries are left out, arguments and errors are as in `entropy`.

    Returns:
        (heads,)

    Example:
        >>> import numpy as np
        >>> confidence(np.full((1, 2, 3, 4), 0.25))
        array([0.25, 0.25])
    """
    weights = as_weights(attention_weights)
    return _mean(weights.max(axis=-1), weights, valid_lens)


def leave_one_out(metric: Callable[[tuple[int, ...]], float], num_heads: int) -> Array:
    """How much a metric falls when one head is removed: metric(()) - metric((head,)), for each head.

    Args:
        metric: of the heads that are removed, counted from 0, such as accuracy on held-out data. For a loss the
            numbers are negative where a head helps. It is called 1 + num_heads times.
        num_heads: at least 1.

    Returns:
        (num_heads,)

    Raises:
        ValueError: num_heads less than 1.

    Example:
        With the three packages: `leave_one_out(lambda heads: accuracy(prune_heads(layer, heads)), layer.num_heads)`.

        >>> leave_one_out(lambda heads: 0.5 if 2 in heads else 0.75, num_heads=3)
        array([0.  , 0.  , 0.25])
    """
    if num_heads < 1:
        raise ValueError(f"num_heads: expected at least 1, got {num_heads}")
    whole = float(metric(()))
    return np.array([whole - float(metric((head,))) for head in range(num_heads)])


def as_weights(attention_weights: Any, first: str = "batch") -> Array:
    """Attention weights as (`first`, heads, queries, keys) in float64. Raises ValueError for any other shape."""
    weights: Array = np.asarray(attention_weights)
    if weights.ndim != 4 or weights.dtype.kind != "f" or not weights.size:
        raise ValueError(
            f"attention_weights: expected floats of shape ({first}, heads, queries, keys), each at least 1, "
            f"got {weights.dtype} of shape {weights.shape}"
        )
    return weights.astype(np.float64)


def lengths_of(valid_lens: Any, shape: tuple[int, ...], first: str = "batch") -> Array | None:
    """(batch, queries): how many keys are valid, at least 0 and at most all, of weights of this shape."""
    if valid_lens is None:
        return None
    (batch, _, queries, keys), lengths = shape, np.asarray(valid_lens)
    if lengths.shape not in ((batch,), (batch, queries)):
        raise ValueError(f"valid_lens: expected ({first},) or ({first}, queries) of {shape}, got shape {lengths.shape}")
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"valid_lens: expected integers, got {lengths.dtype}")
    lengths = lengths[:, None] if lengths.ndim == 1 else lengths
    return np.broadcast_to(np.clip(lengths, 0, keys), (batch, queries))


def _mean(of_rows: Array, weights: Array, valid_lens: Any) -> Array:
    """The mean of (batch, heads, queries) over the queries that have a valid key: (heads,)."""
    lengths = lengths_of(valid_lens, weights.shape)
    counted = np.ones((len(weights), weights.shape[2]), bool) if lengths is None else lengths > 0
    if not counted.any():
        raise ValueError("valid_lens: expected at least one query with a valid key, got none")
    mean: Array = of_rows.swapaxes(1, 2)[counted].mean(axis=0)  # of (queries that count, heads)
    return mean
