"""Dot-product attention in flax nnx, of inputs of any length."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jax_impl.attention import DotProductAttention, Lengths, Randomness, draw_key
from jax_impl.checks import check_fused, check_inputs


class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: about `block` scores are held at a time, and the backward pass computes
    them again.

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = FusedDotProductAttention(dropout=0.0)
    >>> queries, keys, values = jnp.ones((2, 1, 2)), jnp.ones((2, 10, 2)), jnp.ones((2, 10, 4))
    >>> attention(queries, keys, values, jnp.array([2, 6])).shape
    (2, 1, 4)
    """

    block = 2**20  # 4 MB of float32, measured beside its half and its double (docs/adr/0007)

    def __call__(
        self,
        queries: Float[Array, "batch queries head_dim"],
        keys: Float[Array, "batch keys head_dim"],
        values: Float[Array, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        rngs: Randomness | None = None,
    ) -> Float[Array, "batch queries value_size"]:
        """Averages the values as `DotProductAttention` does.

        Args:
            queries: (batch, queries, head_dim), floating.
            keys: (batch, keys, head_dim).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: must be False.
            rngs: the randomness of dropout in this call; None: the module's own, whose state `jax.jit` does not keep.

        Returns:
            (batch, queries, value_size).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other, or need_weights=True.
        """
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        (batch, length, _), num_keys = queries.shape, keys.shape[1]
        if valid_lens is None:
            valid_lens = jnp.full(batch, num_keys)
        if valid_lens.ndim == 1:
            valid_lens = jnp.broadcast_to(valid_lens[:, None], (batch, length))
        key = draw_key(self, rngs)
        rngs = None if key is None else jax.random.split(key, (batch, length))  # each query its own

        def attend(entry):
            queries, keys, values, valid_lens, rngs = entry
            row = jax.checkpoint(lambda query, valid_len, rngs: self._attend(query, keys, values, valid_len, rngs))
            return jax.lax.map(
                lambda x: row(*x), (queries, valid_lens, rngs), batch_size=max(self.block // num_keys, 1)
            )

        at_once = self.block // max(length * num_keys, 1)
        return jax.lax.map(attend, (queries, keys, values, valid_lens, rngs), batch_size=at_once or None)

    def _attend(self, query: Array, keys: Array, values: Array, valid_len: Array, rngs: Array | None) -> Array:
        """The average for one query; `jax.lax.map` vectorises it over a block of queries."""
        scores = self.score(query[None, None], keys[None])[0, 0]
        scores = jnp.where(jnp.arange(len(keys)) < valid_len, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))
        return self.dropout(weights.astype(scores.dtype), rngs=rngs) @ values
