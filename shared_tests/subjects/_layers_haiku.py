"""The attention of Haiku."""

import haiku
import jax
import numpy as np

from shared_tests.subjects._layers import OthersLayer

MODULE = "multi_head_attention"


class Haiku(OthersLayer):
    def build(self, config):
        def apply(queries, keys, values):
            layer = haiku.MultiHeadAttention(
                config.num_heads,
                config.head_dim,
                model_size=config.num_hiddens,
                with_bias=config.bias,
                w_init=haiku.initializers.RandomNormal(0.3),
                b_init=haiku.initializers.RandomNormal(0.3),
                name=MODULE,
            )
            return layer(queries, keys, values)

        function = haiku.without_apply_rng(haiku.transform(apply))
        inputs = [np.ones((1, 2, size), np.float32) for size in (config.query_size, config.key_size, config.value_size)]
        return function, function.init(jax.random.key(0), *inputs)

    def state(self, layer):
        parts = {f"{part}/{name}": x for part, entry in layer[1].items() for name, x in entry.items()}
        return {name.removeprefix(f"{MODULE}/"): np.asarray(array) for name, array in parts.items()}

    def load(self, layer, arrays):
        assert {name: x.shape for name, x in self.state(layer).items()} == {n: x.shape for n, x in arrays.items()}
        parameters = {}
        for name, array in arrays.items():
            part, _, kind = name.partition("/")
            parameters.setdefault(f"{MODULE}/{part}", {})[kind] = array
        return layer[0], parameters

    def forward(self, layer, queries, keys, values):
        return np.asarray(layer[0].apply(layer[1], queries, keys, values))
