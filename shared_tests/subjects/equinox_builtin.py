"""`equinox.nn.MultiheadAttention`, judged as it stands. It takes one entry; `jax.vmap` makes it take a batch."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._jax import Jax

KINDS = ("weight", "bias")
LAYERS = {"W_q": "query_proj", "W_k": "key_proj", "W_v": "value_proj", "W_o": "output_proj"}
BIASES = ("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias")


class EquinoxBuiltin(OfFramework):
    framework = Jax
    name = "equinox_builtin"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    pruned = True
    empty = False
    attention_weights = "none"

    def build(self, config, weights, dtype):
        sizes = {"qk_size": config.head_dim, "vo_size": config.head_dim, "output_size": config.num_hiddens}
        sizes |= {"key_size": config.key_size, "value_size": config.value_size} | dict.fromkeys(BIASES, config.bias)
        make = partial(eqx.nn.MultiheadAttention, config.num_heads, config.query_size, dtype=jnp.dtype(dtype), **sizes)
        with self.backend.numbers(dtype):
            layer = eqx.filter_eval_shape(make, key=jax.random.key(0))  # only shapes: nothing is drawn
            tensors = [self.backend.tensor(x, dtype) for x in weights.values()]
            return eqx.tree_at(lambda layer: [_of(layer, name) for name in weights], layer, tensors), dtype

    def forward(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(_forward, layer, queries, keys, values, valid_lens, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        arrays = queries, keys, values, valid_lens, cotangent
        with self.backend.numbers(dtype):
            tensors = [None if x is None else self.backend.tensor(x, dtype) for x in arrays]
            gradient, *inputs = _gradients(layer, *tensors)
            found = dict(zip(("queries", "keys", "values"), map(self.backend.array, inputs), strict=True))
            return found | self.export_weights((gradient, dtype))

    def export_weights(self, model):
        found = {f"{name}.{kind}": getattr(getattr(model[0], LAYERS[name]), kind) for name in LAYERS for kind in KINDS}
        return {name: self.backend.array(x) for name, x in found.items() if x is not None}


def _of(layer, name):
    return getattr(getattr(layer, LAYERS[name[:3]]), name[4:])


@eqx.filter_jit
def _forward(layer, queries, keys, values, valid_lens):
    if valid_lens is None:
        return jax.vmap(layer)(queries, keys, values)
    per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
    attend = jnp.arange(keys.shape[1]) < per_query[..., None]
    attend = jnp.broadcast_to(attend, (*queries.shape[:2], keys.shape[1]))
    return jax.vmap(layer)(queries, keys, values, attend)


@eqx.filter_jit
def _gradients(layer, queries, keys, values, valid_lens, cotangent):
    def output(*arguments):
        return _forward(*arguments, valid_lens)

    return eqx.filter_vjp(output, layer, queries, keys, values)[1](cotangent)
