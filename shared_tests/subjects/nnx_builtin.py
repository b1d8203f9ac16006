"""`flax.nnx.MultiHeadAttention`, to be timed beside `jax_impl`."""

import jax.numpy as jnp
from flax import nnx

from shared_tests.subjects._jax import Jax


class NnxBuiltin:
    name = "nnx_builtin"

    def __init__(self):
        self.backend = Jax()

    def make(self, width, num_heads):
        with self.backend.numbers("float32"):
            layer = Own(width, num_heads)
        layer.eval()
        return layer


class Own(nnx.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads):
        self.layer = nnx.MultiHeadAttention(num_heads, width, use_bias=False, decode=False, rngs=nnx.Rngs(0))

    def __call__(self, queries, keys, values, valid_lens, need_weights=False):
        attend = (jnp.arange(keys.shape[1]) < valid_lens[:, None])[:, None, None]
        if need_weights:  # this is how flax gives an intermediate
            return nnx.capture(self.layer, nnx.Intermediate)(queries, keys, values, mask=attend, sow_weights=True)
        return self.layer(queries, keys, values, mask=attend)
