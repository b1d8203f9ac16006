"""`keras.layers.MultiHeadAttention` on TensorFlow, judged as it stands and timed beside `tf_impl`."""

import numpy as np

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._tf import TensorFlow, keras, tf

LAYERS = {"W_q": "query", "W_k": "key", "W_v": "value", "W_o": "attention_output"}


class KerasBuiltin(OfFramework):
    framework = TensorFlow
    concurrent = False
    name = "keras_builtin"
    dtypes = ("float32",)  # in float64 it rounds 1 / sqrt(head_dim) to float32
    pruned = True
    rows_without_key = "zeros"  # uniform where no attention weights are asked for
    lowest_score = -1e9

    def make(self, width, num_heads):
        with self.backend.numbers("float32"):
            own = Own(num_heads, width // num_heads, use_bias=False)
            own.layer.build((None, None, width), (None, None, width))
            return own

    def build(self, config, weights, dtype):
        kind = {"use_bias": config.bias, "output_shape": config.num_hiddens, "dtype": dtype}
        with self.backend.numbers(dtype):
            own = Own(config.num_heads, config.head_dim, **kind)
            own.layer.build(*((None, None, x) for x in (config.query_size, config.value_size, config.key_size)))
            for name, array in weights.items():
                variable = _variable(own, name)
                variable.assign((array.T if name.endswith("weight") else array).reshape(variable.shape))
        return own, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype, need_weights=True)

    def forward_alone(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        tensor, array = self.backend.tensor, self.backend.array
        names = [f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")][:: 1 if _has_bias(layer) else 2]
        with self.backend.numbers(dtype), tf.GradientTape() as tape:
            inputs = [tensor(x, dtype) for x in (queries, keys, values)]
            tape.watch(inputs)
            lengths = None if valid_lens is None else tensor(valid_lens, dtype)
            output, _ = layer(*inputs, lengths, need_weights=True)
        sources = [*inputs, *(_variable(layer, name).value for name in names)]
        gradients = map(array, tape.gradient(output, sources, output_gradients=tensor(cotangent, dtype)))
        found = dict(zip(("queries", "keys", "values", *names), gradients, strict=True))
        return {name: _canonical(name, x) for name, x in found.items()}

    def export_weights(self, model):
        layer, _ = model
        kinds = ("weight", "bias") if _has_bias(layer) else ("weight",)
        names = [f"{name}.{kind}" for name in LAYERS for kind in kinds]
        return {name: _canonical(name, self.backend.array(_variable(layer, name).value)) for name in names}


def _variable(own, name):
    layer = getattr(own.layer, f"{LAYERS[name[:3]]}_dense", None) or own.layer._output_dense
    return layer.kernel if name.endswith("weight") else layer.bias


def _has_bias(own):
    return own.layer._output_dense.bias is not None


def _canonical(name, array):
    if name.endswith("bias"):
        return array.reshape(-1)
    if not name.endswith("weight"):
        return array
    rows = array.shape[0] * array.shape[1] if name.startswith("W_o") else array.shape[0]
    return np.ascontiguousarray(array.reshape(rows, -1).T)


class Own(keras.layers.Layer):
    """Called as ours is."""

    def __init__(self, num_heads, head_dim, dtype="float32", **options):
        super().__init__(dtype=dtype)
        self.layer = keras.layers.MultiHeadAttention(num_heads, head_dim, dtype=dtype, **options)

    def call(self, queries, keys, values, valid_lens, need_weights=False, training=None):
        attend = None
        if valid_lens is not None:
            attend = tf.sequence_mask(valid_lens, tf.shape(keys)[1])
            attend = attend[:, None] if len(valid_lens.shape) == 1 else attend
        return self.layer(
            queries,
            values,
            keys,
            attention_mask=attend,
            return_attention_scores=need_weights,
            training=training,
        )
