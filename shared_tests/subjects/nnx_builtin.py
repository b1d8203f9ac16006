"""`flax.nnx.MultiHeadAttention`, to be timed beside `jax_impl`."""

import jax.numpy as jnp
from flax import nnx

from shared_tests.subjects.jax_impl import JaxImpl


class NnxBuiltin(JaxImpl):
    name = "nnx_builtin"
    judged = False

    def make(self, name, *, query_size, num_hiddens, num_heads, bias, dropout, **sizes):
        return Own(query_size, num_heads, bias)


class Own(nnx.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads, bias):
        self.layer = nnx.MultiHeadAttention(num_heads, width, use_bias=bias, decode=False, rngs=nnx.Rngs(0))

    def __call__(self, queries, keys, values, valid_lens, need_weights=False):
        attend = (jnp.arange(keys.shape[1]) < valid_lens[:, None])[:, None, None]
        if need_weights:  # this is how flax gives an intermediate
            return nnx.capture(self.layer, nnx.Intermediate)(queries, keys, values, mask=attend, sow_weights=True)
        return self.layer(queries, keys, values, mask=attend)
