"""The attention of Equinox."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np

from shared_tests.subjects._layers import OthersLayer
from shared_tests.subjects.equinox_builtin import BIASES, KINDS, LAYERS


class Equinox(OthersLayer):
    def build(self, config):
        return equinox.nn.MultiheadAttention(
            config.num_heads,
            config.query_size,
            key_size=config.key_size,
            value_size=config.value_size,
            output_size=config.num_hiddens,
            qk_size=config.head_dim,
            vo_size=config.head_dim,
            **dict.fromkeys(BIASES, config.bias),
            key=jax.random.key(0),
        )

    def state(self, layer):
        parts = {f"{part}.{kind}": getattr(getattr(layer, part), kind) for part in LAYERS.values() for kind in KINDS}
        return {name: np.asarray(array) for name, array in parts.items() if array is not None}

    def load(self, layer, arrays):
        assert {name: x.shape for name, x in self.state(layer).items()} == {n: x.shape for n, x in arrays.items()}
        names = [name.split(".") for name in arrays]

        def where(layer):
            return [getattr(getattr(layer, part), kind) for part, kind in names]

        return equinox.tree_at(where, layer, [jnp.asarray(array) for array in arrays.values()])

    def forward(self, layer, queries, keys, values):
        return np.asarray(jax.vmap(layer)(queries, keys, values))
