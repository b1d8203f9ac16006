"""Scoring modules in flax nnx. Beside the shared arguments: `rngs`, and with parameters `dtype` and `param_dtype`."""

import math
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Integer

from jax_impl.checks import check_dropout, check_inputs, check_scores, check_sizes

Lengths: TypeAlias = Integer[Array | np.ndarray, "batch"] | Integer[Array | np.ndarray, "batch queries"]
"""How many keys, from the first, each batch entry or each query attends to."""
Randomness: TypeAlias = nnx.Rngs | nnx.RngStream | Array
"""Streams of random keys, one of them, or a key."""


def masked_softmax(
    scores: Float[Array, "batch queries keys"], valid_lens: Lengths | None = None
) -> Float[Array, "batch queries keys"]:
    """Softmax over the keys that a query attends to, which are those before its valid length (d2l 11.3.2.1).

    The other scores are replaced by the dtype's most negative finite number, so their attention weight is 0. A row
    whose valid length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.

    Args:
        scores: (batch, queries, keys), floating.
        valid_lens: integers, (batch,) or (batch, queries); None masks nothing.

    Returns:
        Attention weights, of the shape and dtype of `scores`. Each row sums to 1.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape, or no keys.

    >>> masked_softmax(jnp.zeros((1, 1, 4)), jnp.array([2])).tolist()
    [[[0.5, 0.5, 0.0, 0.0]]]
    """
    check_scores(scores, valid_lens)
    if valid_lens is not None:
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None]
        positions = jnp.arange(scores.shape[-1])
        attend = positions[None, None] < valid_lens[:, :, None]  # (batch, queries or 1, keys)
        scores = jnp.where(attend, scores, jnp.finfo(scores.dtype).min)
    wide = jnp.promote_types(scores.dtype, jnp.float32)  # half precision would lose the sum
    return jax.nn.softmax(scores.astype(wide), axis=-1).astype(scores.dtype)


def draw_key(attention: nnx.Module, rngs: Randomness | None) -> Array | None:
    """A key from where the dropout of a scoring module would take one; None if it drops nothing, or has none to take.

    Without one, `nnx.Dropout` itself says what is missing.
    """
    dropout: Any = getattr(attention, "dropout", None)
    if getattr(dropout, "deterministic", True) or not dropout.rate:
        return None
    rngs = dropout.rngs if rngs is None else rngs
    if rngs is None:
        return None
    rngs = rngs[dropout.rng_collection] if isinstance(rngs, nnx.Rngs) else rngs
    return rngs() if isinstance(rngs, nnx.RngStream) else rngs


class ScoredAttention(nnx.Module):
    """What the scoring modules share: scores, masked softmax, dropout, average of the values.

    A subclass gives `score(queries, keys) -> (batch, queries, keys)`.
    """

    query_size: int | None = None
    key_size: int | None = None

    def __init__(self, dropout: float, *, rngs: nnx.Rngs | None = None) -> None:
        check_dropout(dropout)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "batch queries query_size"],
        keys: Float[Array, "batch keys key_size"],
        values: Float[Array, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        rngs: Randomness | None = None,
    ) -> (
        Float[Array, "batch queries value_size"]
        | tuple[Float[Array, "batch queries value_size"], Float[Array, "batch queries keys"]]
    ):
        """Averages the values, each weighted by how its key scores against the query.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: whether to return the attention weights, too.
            rngs: the randomness of dropout in this call; None: the module's own, whose state `jax.jit` does not keep.

        Returns:
            (batch, queries, value_size); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other.
        """
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size)
        weights = masked_softmax(self.score(queries, keys), valid_lens)
        output = self.dropout(weights, rngs=rngs) @ values
        return (output, weights) if need_weights else output

    def score(
        self, queries: Float[Array, "batch queries query_size"], keys: Float[Array, "batch keys key_size"]
    ) -> Float[Array, "batch queries keys"]:
        """Says how well each key fits each query: what a subclass gives."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method score(queries, keys)")


class DotProductAttention(ScoredAttention):
    """Scaled dot-product attention (d2l 11.3.3; Vaswani et al. 2017, section 3.2.1).

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = DotProductAttention(dropout=0.5)
    >>> attention.eval()
    >>> queries, keys, values = jnp.ones((2, 1, 2)), jnp.ones((2, 10, 2)), jnp.ones((2, 10, 4))
    >>> attention(queries, keys, values, jnp.array([2, 6])).shape
    (2, 1, 4)
    """

    def score(
        self, queries: Float[Array, "batch queries head_dim"], keys: Float[Array, "batch keys head_dim"]
    ) -> Float[Array, "batch queries keys"]:
        """Returns queries . keys / sqrt(head_dim)."""
        return queries / math.sqrt(queries.shape[-1]) @ keys.mT


class AdditiveAttention(ScoredAttention):
    """Additive attention (d2l 11.3.4; Bahdanau et al. 2015): the score is w_v . tanh(W_q query + W_k key).

    Args:
        key_size: the width of the keys.
        query_size: the width of the queries.
        num_hiddens: the width of the hidden layer.
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    Raises:
        TypeError: for a size that is no integer, or a dropout that is no number.
        ValueError: for a size below 1, or a dropout outside [0, 1).

    >>> attention = AdditiveAttention(key_size=2, query_size=20, num_hiddens=8, dropout=0.1, rngs=nnx.Rngs(0))
    >>> attention.eval()
    >>> queries, keys, values = jnp.ones((2, 1, 20)), jnp.ones((2, 10, 2)), jnp.ones((2, 10, 4))
    >>> attention(queries, keys, values, jnp.array([2, 6])).shape
    (2, 1, 4)
    """

    def __init__(
        self,
        key_size: int,
        query_size: int,
        num_hiddens: int,
        dropout: float,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_sizes(key_size=key_size, query_size=query_size, num_hiddens=num_hiddens)
        super().__init__(dropout, rngs=rngs)
        self.key_size, self.query_size, self.num_hiddens = key_size, query_size, num_hiddens
        self.dtype = jnp.dtype(dtype or param_dtype)
        linear = partial(nnx.Linear, use_bias=False, dtype=self.dtype, param_dtype=param_dtype, rngs=rngs)
        self.W_k = linear(key_size, num_hiddens)
        self.W_q = linear(query_size, num_hiddens)
        self.w_v = linear(num_hiddens, 1)

    def score(
        self, queries: Float[Array, "batch queries query_size"], keys: Float[Array, "batch keys key_size"]
    ) -> Float[Array, "batch queries keys"]:
        """Returns w_v . tanh(W_q query + W_k key)."""
        queries, keys = self.W_q(queries)[:, :, None], self.W_k(keys)[:, None]
        return self.w_v(jnp.tanh(queries + keys)).squeeze(-1)
