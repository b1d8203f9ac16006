"""Dot-product attention in flax nnx, of inputs of any length."""

import jax
import jax.numpy as jnp

from jax_impl.attention import DotProductAttention
from jax_impl.checks import check_fused, check_inputs


class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: some `block` scores are held at a time, and the
    backward pass computes them anew. dropout: probability in [0, 1) of dropping an attention
    weight in training.
    """

    block = 2**20  # 4 MB of float32, measured beside its half and its double (docs/adr/0007)

    def __call__(self, queries, keys, values, valid_lens=None, *, need_weights=False):
        """Averages the values as `DotProductAttention` does: arguments, result and errors are as there.

        Raises ValueError also for need_weights=True.
        """
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        (entries, length, _), num_keys = queries.shape, keys.shape[1]
        if valid_lens is None:
            valid_lens = jnp.full(entries, num_keys)
        if valid_lens.ndim == 1:
            valid_lens = jnp.broadcast_to(valid_lens[:, None], (entries, length))
        rngs = None
        if self._drops() and self.dropout.rngs:  # without them nnx.Dropout says what is missing
            rngs = jax.random.split(self.dropout.rngs(), (entries, length))

        def attend(entry):
            queries, keys, values, valid_lens, rngs = entry
            row = jax.checkpoint(lambda query, valid_len, rngs: self._attend(query, keys, values, valid_len, rngs))
            return jax.lax.map(
                lambda x: row(*x), (queries, valid_lens, rngs), batch_size=max(self.block // num_keys, 1)
            )

        at_once = self.block // max(length * num_keys, 1)
        return jax.lax.map(attend, (queries, keys, values, valid_lens, rngs), batch_size=at_once or None)

    def _attend(self, queries, keys, values, valid_lens, rngs):
        """The average for one query, which `jax.lax.map` makes a block of them."""
        scores = jnp.where(jnp.arange(len(keys)) < valid_lens, self.score(queries, keys), jnp.finfo(keys.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)))
        return self.dropout(weights.astype(scores.dtype), rngs=rngs) @ values

    def _drops(self):
        return not self.dropout.deterministic and self.dropout.rate > 0
