"""`tf_impl` as a subject."""

from functools import partial

from shared_tests.harness.implementation import Implementation
from shared_tests.harness.training import BETAS, EPSILON
from shared_tests.subjects._tf import TensorFlow, keras, tf

import tf_impl  # isort: skip


class TfImpl(Implementation):
    framework = TensorFlow
    name = "tf_impl"
    package = tf_impl

    @property
    def concurrent(self):
        """On a second device TensorFlow (2.21.0) mixes up the constants of several threads."""
        return self.device == "cpu:0"

    def make(self, name, *arguments, dtype="float32", **options):
        with self.backend.numbers(dtype):
            return getattr(tf_impl, name)(*arguments, dtype=dtype, **options)

    def with_mask(self, model, keep):
        layer, dtype = model
        layer.attention.dropout = Mask(self.backend.tensor(keep.reshape(-1, *keep.shape[2:]), dtype))
        return layer, dtype

    def reseed(self, layer):
        if layer.attention.dropout.rate:
            layer.attention.dropout.seed_generator.state.assign((0, 0))

    def training(self, layer):
        return partial(layer, training=True)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        tensor, array = self.backend.tensor, self.backend.array
        with self.backend.numbers(dtype), tf.GradientTape() as tape:
            inputs = [tensor(x, dtype) for x in (queries, keys, values)]
            tape.watch(inputs)
            output = layer(*inputs, None if valid_lens is None else tensor(valid_lens, dtype), training=True)
        sources = inputs, layer.trainable_variables
        inputs, parameters = tape.gradient(output, sources, output_gradients=tensor(cotangent, dtype))
        gradients = dict(zip(("queries", "keys", "values"), map(array, inputs), strict=True))
        kept = [tf.identity(variable) for variable in layer.trainable_variables]
        _assign(layer, parameters)  # for a moment, to have them by their canonical names
        gradients |= tf_impl.export_weights(layer)
        _assign(layer, kept)
        return gradients

    @staticmethod
    def weighted_sum(layer, queries, keys, values, valid_lens, cotangent):
        return tf.reduce_sum(layer(queries, keys, values, valid_lens) * cotangent)

    def train(self, config, weights, batches, optimizer, rate, dtype):
        layer, _ = self.build(config, {name: w for name, w in weights.items() if "head" not in name}, dtype)
        with self.backend.numbers(dtype):
            head = [keras.Variable(weights[f"head.{name}"], dtype=dtype) for name in ("weight", "bias")]
            if optimizer == "sgd":
                update = keras.optimizers.SGD(rate)
            else:
                update = keras.optimizers.Adam(rate, *BETAS, epsilon=EPSILON)
        variables = [*layer.trainable_variables, *head]
        for rows, labels in batches:
            with self.backend.numbers(dtype), tf.GradientTape() as tape:
                x = self.backend.tensor(rows, dtype)
                logits = tf.reduce_mean(layer(x, x, x), axis=1) @ tf.transpose(head[0]) + head[1]
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            update.apply(tape.gradient(loss, variables), variables)
            weight, bias = map(self.backend.array, head)
            yield float(loss), tf_impl.export_weights(layer) | {"head.weight": weight, "head.bias": bias}


def _assign(layer, tensors):
    for variable, tensor in zip(layer.trainable_variables, tensors, strict=True):
        variable.assign(tensor)


class Mask:
    """Dropout that keeps what it is told to. No Keras layer: one that is built takes no other."""

    rate, seed = 0.0, None

    def __init__(self, keep):
        self.keep = keep

    def __call__(self, weights, training):
        return weights * self.keep
