"""Layers of Keras, as those of others are checked."""

import numpy as np

from shared_tests.subjects._layers import OthersLayer
from shared_tests.subjects._tf import keras, tf  # first: it holds back what TensorFlow prints

import tf_impl  # isort: skip


class KerasLayer(OthersLayer):
    """A layer of Keras, its parameters by their paths; `make` and `call` are a subclass's."""

    def build(self, config):
        layer = self.make(config)
        random = np.random.default_rng(0)
        layer.set_weights([random.normal(scale=0.3, size=x.shape) for x in layer.get_weights()])
        return layer

    def make(self, config):
        raise NotImplementedError

    def call(self, layer, queries, keys, values):
        raise NotImplementedError

    def names(self, layer):
        """Its layout's name of each variable."""
        return {variable.path.partition("/")[2]: variable for variable in layer.weights}

    def state(self, layer):
        return {name: variable.numpy() for name, variable in self.names(layer).items()}

    def load(self, layer, arrays):
        variables = self.names(layer)
        assert variables.keys() == arrays.keys()
        for name, array in arrays.items():
            variables[name].assign(array)
        return layer

    def forward(self, layer, queries, keys, values):
        return self.call(layer, *map(tf.constant, (queries, keys, values))).numpy()


class Keras(KerasLayer):
    def make(self, config):
        layer = keras.layers.MultiHeadAttention(
            config.num_heads, config.head_dim, use_bias=config.bias, output_shape=config.num_hiddens
        )
        sizes = config.query_size, config.value_size, config.key_size
        layer.build(*((None, None, size) for size in sizes))
        return layer

    def call(self, layer, queries, keys, values):
        return layer(queries, values, keys)


class Book(KerasLayer):
    def make(self, config):
        return tf_impl.MultiHeadAttention(**config, dropout=0.0)

    def names(self, layer):
        dense = {name: getattr(layer, name) for name in ("W_q", "W_k", "W_v", "W_o")}
        return {f"{name}/vars/{i}": x for name, part in dense.items() for i, x in enumerate(part.weights)}

    def call(self, layer, queries, keys, values):
        return layer(queries, keys, values)
