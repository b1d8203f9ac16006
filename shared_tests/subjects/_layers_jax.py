"""Layers of flax, as those of others are checked."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx, traverse_util

import jax_impl
from shared_tests.subjects._layers import OthersLayer


def _drawn(arrays):
    """Normal numbers in the place of parameters: biases are zeros at first, which would hide where they are."""
    random = np.random.default_rng(0)
    return {name: random.normal(scale=0.3, size=array.shape).astype(np.float32) for name, array in arrays.items()}


class NnxLayer(OthersLayer):
    """A module of nnx; `make` and `call` are a subclass's."""

    def build(self, config):
        layer = self.make(config)
        layer.eval()
        return self.load(layer, _drawn(self.state(layer)))

    def make(self, config):
        raise NotImplementedError

    def call(self, layer, queries, keys, values):
        return layer(queries, keys, values)

    def state(self, layer):
        flat = nnx.to_flat_state(nnx.state(layer, nnx.Param))
        return {"/".join(map(str, path)): np.asarray(parameter[...]) for path, parameter in flat}

    def load(self, layer, arrays):
        for path, parameter in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
            array = arrays.pop("/".join(map(str, path)))
            assert parameter.shape == array.shape, path
            parameter[...] = jnp.asarray(array)
        assert not arrays
        return layer

    def forward(self, layer, queries, keys, values):
        return np.asarray(self.call(layer, queries, keys, values))


class Book(NnxLayer):
    def make(self, config):
        return jax_impl.MultiHeadAttention(**config, dropout=0.0, rngs=nnx.Rngs(0))


class Nnx(NnxLayer):
    groups = 0

    def make(self, config):
        sizes = {"in_features": config.query_size, "in_kv_features": config.key_size}
        widths = {"qkv_features": config.num_heads * config.head_dim, "out_features": config.num_hiddens}
        groups = {"num_kv_heads": self.groups} if self.groups else {}
        kind = {"use_bias": config.bias, "decode": False, "rngs": nnx.Rngs(0)}
        return nnx.MultiHeadAttention(config.num_heads, **sizes, **widths, **kind, **groups)


class Linen(OthersLayer):
    def build(self, config):
        layer = linen.MultiHeadDotProductAttention(
            num_heads=config.num_heads,
            qkv_features=config.num_heads * config.head_dim,
            out_features=config.num_hiddens,
            use_bias=config.bias,
        )
        inputs = [jnp.ones((1, 2, size)) for size in (config.query_size, config.key_size, config.value_size)]
        parameters = layer.init(jax.random.key(0), *inputs)["params"]
        flat = traverse_util.flatten_dict(parameters, sep="/")
        return layer, _drawn({name: np.asarray(array) for name, array in flat.items()})

    def state(self, layer):
        return layer[1]

    def load(self, layer, arrays):
        assert {name: x.shape for name, x in layer[1].items()} == {name: x.shape for name, x in arrays.items()}
        return layer[0], dict(arrays)

    def forward(self, layer, queries, keys, values):
        module, arrays = layer
        return np.asarray(
            module.apply({"params": traverse_util.unflatten_dict(arrays, sep="/")}, queries, keys, values)
        )
