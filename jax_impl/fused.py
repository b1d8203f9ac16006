"""Dot-product attention in flax nnx, of inputs of any length."""

from functools import partial

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
        at_once = self.block // max(length * num_keys, 1)
        parts = 1 if valid_lens is None or at_once >= batch else 4  # of the keys, the last of which may be left out
        if valid_lens is None:
            valid_lens = jnp.full(batch, num_keys)
        if valid_lens.ndim == 1:
            valid_lens = jnp.broadcast_to(valid_lens[:, None], (batch, length))
        key = draw_key(self, rngs)
        rngs = None if key is None else jax.random.split(key, (batch, length))  # each query its own

        def attend(entry):
            queries, keys, values, valid_lens, rngs = entry
            row = jax.checkpoint(lambda *of_query: self._attend(parts, keys, values, *of_query))
            return jax.lax.map(
                lambda x: row(*x), (queries, valid_lens, rngs), batch_size=max(self.block // num_keys, 1)
            )

        return jax.lax.map(attend, (queries, keys, values, valid_lens, rngs), batch_size=at_once or None)

    def _attend(
        self, parts: int, keys: Array, values: Array, query: Array, valid_len: Array, rngs: Array | None
    ) -> Array:
        """The average for one query; `jax.lax.map` vectorises it over a block of queries.

        Parts of the keys that no query of the block attends to are left out. Sizes are static, so each has a branch.
        """
        ends = [-(-len(keys) * part // parts) for part in range(1, parts + 1)]
        # The number of the branch that is enough for this query; one without a key has the mean of all values.
        enough = jnp.where(valid_len > 0, (jnp.array(ends) < valid_len).sum(), parts - 1)
        # A branch would keep what all of them need for the backward pass; under `checkpoint` that is its arguments.
        branches = [jax.checkpoint(partial(self._attend_before, end)) for end in ends]
        return jax.lax.switch(_for_all(enough), branches, keys, values, query, valid_len, rngs)

    def _attend_before(
        self, end: int, keys: Array, values: Array, query: Array, valid_len: Array, rngs: Array | None
    ) -> Array:
        """The average of the first `end` values for one query, which attends to none of the others."""
        scores = self.score(query[None, None], keys[None, :end])[0, 0]
        scores = jnp.where(jnp.arange(end) < valid_len, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))
        return self.dropout(weights.astype(scores.dtype), rngs=rngs) @ values[:end]


@jax.custom_batching.custom_vmap
def _for_all(number: Array) -> Array:
    """The number itself; where `jax.vmap` has one for each query of a block, the greatest, which is enough for all."""
    return number


@_for_all.def_vmap
def _greatest(axis_size: int, in_batched: list[bool], numbers: Array) -> tuple[Array, bool]:
    return _for_all(numbers.max(axis=0, initial=0)), False  # there may be no queries
