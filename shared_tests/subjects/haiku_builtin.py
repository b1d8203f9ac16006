"""`haiku.MultiHeadAttention`, judged as it stands."""

from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._jax import Jax

LAYERS = {"W_q": "query", "W_k": "key", "W_v": "value", "W_o": "linear"}


class HaikuBuiltin(OfFramework):
    framework = Jax
    name = "haiku_builtin"
    dtypes = ("float64", "float32", "bfloat16")
    pruned = True
    empty = False
    attention_weights = "none"
    lowest_score = -1e30

    def build(self, config, weights, dtype):
        sizes = config.num_heads, config.head_dim, config.num_hiddens, config.bias
        parameters = {f"multi_head_attention/{layer}": {} for layer in LAYERS.values()}
        with self.backend.numbers(dtype):
            for name, array in weights.items():
                kind, array = ("w", array.T) if name.endswith("weight") else ("b", array)
                parameters[f"multi_head_attention/{LAYERS[name[:3]]}"][kind] = self.backend.tensor(array, dtype)
        return sizes, parameters, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        sizes, parameters, dtype = model
        return self.backend.run(_forward, parameters, queries, keys, values, valid_lens, sizes=sizes, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        sizes, parameters, dtype = model
        arrays = queries, keys, values, valid_lens, cotangent
        with self.backend.numbers(dtype):
            tensors = [None if x is None else self.backend.tensor(x, dtype) for x in arrays]
            gradient, *inputs = _gradients(parameters, *tensors, sizes=sizes)
            found = dict(zip(("queries", "keys", "values"), map(self.backend.array, inputs), strict=True))
            return found | self.export_weights((sizes, gradient, dtype))

    def export_weights(self, model):
        _, parameters, _ = model
        found = {}
        for name, layer in LAYERS.items():
            for kind, x in parameters[f"multi_head_attention/{layer}"].items():
                found[f"{name}.{'weight' if kind == 'w' else 'bias'}"] = self.backend.array(x.T)
        return found


@hk.without_apply_rng
@hk.transform
def _layer(queries, keys, values, valid_lens, sizes):
    num_heads, head_dim, num_hiddens, with_bias = sizes
    options = {"with_bias": with_bias, "model_size": num_hiddens, "w_init": jnp.zeros}
    attend = None
    if valid_lens is not None:
        per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
        attend = (jnp.arange(keys.shape[1]) < per_query[..., None])[:, None]
    return hk.MultiHeadAttention(num_heads, head_dim, **options)(queries, keys, values, attend)


_forward = jax.jit(_layer.apply, static_argnames="sizes")


@partial(jax.jit, static_argnames="sizes")
def _gradients(parameters, queries, keys, values, valid_lens, cotangent, sizes):
    def output(*arguments):
        return _layer.apply(*arguments, valid_lens, sizes=sizes)

    return jax.vjp(output, parameters, queries, keys, values)[1](cotangent)
