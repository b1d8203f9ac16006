"""`flax.nnx.MultiHeadAttention`, judged as it stands and timed beside `jax_impl`.

Keys and values are of one width, which may be another than that of the queries; that is left aside here.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._jax import Jax

LAYERS = {"W_q": "query", "W_k": "key", "W_v": "value", "W_o": "out"}


class NnxBuiltin(OfFramework):
    framework = Jax
    name = "nnx_builtin"
    dtypes = ("float64", "float32", "bfloat16")
    pruned = True
    square = True

    def make(self, width, num_heads):
        with self.backend.numbers("float32"):
            layer = Own(width, num_heads)
        layer.eval()
        return layer

    def build(self, config, weights, dtype):
        kind = {"use_bias": config.bias, "dtype": jnp.dtype(dtype)}
        make = partial(Own, config.num_hiddens, config.num_heads, config.num_heads * config.head_dim, **kind)
        with self.backend.numbers(dtype):
            own = nnx.eval_shape(make)  # only shapes: to draw initial numbers would be to compile
            nnx.update(own, jax.tree.map(_zeros, nnx.state(own)))
            parameters = nnx.state(own, nnx.Param)
            for name, array in weights.items():
                kind = "kernel" if name.endswith("weight") else "bias"
                parameter = parameters["layer"][LAYERS[name[:3]]][kind]
                array = array.T if kind == "kernel" else array
                parameter[...] = self.backend.tensor(array.reshape(parameter.shape), dtype)
            nnx.update(own, parameters)
        own.eval()
        return own, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        return self._run(_forward, model, queries, keys, values, valid_lens)

    def forward_alone(self, model, queries, keys, values, valid_lens):
        return self._run(_forward_alone, model, queries, keys, values, valid_lens)

    def _run(self, function, model, *arrays):
        layer, dtype = model
        return self.backend.run(function, nnx.state(layer, nnx.Param), *arrays, graph=nnx.graphdef(layer), dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        with self.backend.numbers(dtype):
            arrays = queries, keys, values, valid_lens, cotangent
            tensors = [None if x is None else self.backend.tensor(x, dtype) for x in arrays]
            parameters, *inputs = _gradients(nnx.state(layer, nnx.Param), *tensors, graph=nnx.graphdef(layer))
            found = dict(zip(("queries", "keys", "values"), map(self.backend.array, inputs), strict=True))
            return found | self._canonical(parameters, layer)

    def export_weights(self, model):
        layer, dtype = model
        with self.backend.numbers(dtype):
            return self._canonical(nnx.state(layer, nnx.Param), layer)

    def _canonical(self, parameters, layer):
        found = {}
        for name, own in LAYERS.items():
            for kind, parameter in parameters["layer"][own].items():
                array = self.backend.array(parameter[...])
                if kind == "kernel":
                    rows = array.shape[0] if name != "W_o" else array.shape[0] * array.shape[1]
                    found[f"{name}.weight"] = np.ascontiguousarray(array.reshape(rows, -1).T)
                else:
                    found[f"{name}.bias"] = array.reshape(-1)
        return found


def _zeros(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key(0) if is_key else jax.device_put(np.zeros(leaf.shape, leaf.dtype))


class Own(nnx.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads, width_of_heads=None, use_bias=False, dtype=jnp.float32):
        kind = {"use_bias": use_bias, "dtype": dtype, "param_dtype": dtype}
        sizes = num_heads, width, width_of_heads or width, width
        self.layer = nnx.MultiHeadAttention(*sizes, decode=False, rngs=nnx.Rngs(0), **kind)

    def __call__(self, queries, keys, values, valid_lens, need_weights=False):
        attend = None
        if valid_lens is not None:
            attend = jnp.arange(keys.shape[1]) < valid_lens[..., None]
            attend = attend[:, None, None] if valid_lens.ndim == 1 else attend[:, None]
        if need_weights:  # this is how flax gives an intermediate
            return nnx.capture(self.layer, nnx.Intermediate)(queries, keys, values, mask=attend, sow_weights=True)
        return self.layer(queries, keys, values, mask=attend)


@partial(jax.jit, static_argnames="graph")
def _forward(parameters, queries, keys, values, valid_lens, graph):
    output, kept = nnx.merge(graph, parameters)(queries, keys, values, valid_lens, need_weights=True)
    (weights,) = jax.tree.leaves(kept)
    return output, weights


@partial(jax.jit, static_argnames="graph")
def _forward_alone(parameters, queries, keys, values, valid_lens, graph):
    return nnx.merge(graph, parameters)(queries, keys, values, valid_lens)


@partial(jax.jit, static_argnames="graph")
def _gradients(parameters, queries, keys, values, valid_lens, cotangent, graph):
    def output(*arguments):
        return nnx.merge(graph, arguments[0])(*arguments[1:], valid_lens, need_weights=True)[0]

    return jax.vjp(output, parameters, queries, keys, values)[1](cotangent)
