"""TensorFlow with keras, as our subjects use it."""

import math
from functools import partial

from shared_tests.harness.backend import Backend, held_back

with held_back():
    import keras
    import tensorflow as tf

    tf.matmul(
        tf.zeros((1, 1), tf.float16), tf.zeros((1, 1), tf.float16)
    )  # the first use prints about devices and float16


class TensorFlow(Backend):
    def __init__(self):
        self.device = self.devices()[0]

    def devices(self):
        names = [device.name.removeprefix("/device:").lower() for device in tf.config.list_logical_devices()]
        return sorted(names, key=lambda name: not name.startswith("gpu"))  # where TensorFlow itself puts things first

    def numbers(self, dtype):
        return tf.device(self.device.upper())

    def tensor(self, array, dtype):
        return tf.cast(array, dtype) if array.dtype.kind == "f" else tf.constant(array)

    def array(self, tensor):
        return (tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tf.convert_to_tensor(tensor)).numpy()

    def mesh(self, shape):
        names = [f"axis {i}" for i in range(len(shape))]
        return keras.distribution.DeviceMesh(shape, names, [f"cpu:{i}" for i in range(math.prod(shape))])

    def compiled(self, function, *arrays, dtype):
        tensors = [self.tensor(x, dtype) for x in arrays]
        shapes = [(None, None, x.shape[-1]) if x.ndim == 3 else (None,) * x.ndim for x in tensors]
        specs = [tf.TensorSpec(shape, x.dtype) for shape, x in zip(shapes, tensors, strict=True)]
        return tf.function(function, input_signature=specs)

    def compiled_by_default(self, function):
        return tf.function(function)

    def restored(self, layer, *arrays, dtype, folder):
        shapes = [(None, x.shape[-1]) if x.ndim == 3 else x.shape[1:] for x in arrays]
        dtypes = [dtype if x.ndim == 3 else str(x.dtype) for x in arrays]
        inputs = [keras.Input(shape, dtype=kind) for shape, kind in zip(shapes, dtypes, strict=True)]
        keras.Model(inputs, layer(*inputs)).save(folder / "layer.keras")
        model = keras.saving.load_model(folder / "layer.keras")
        return lambda *tensors: model(list(tensors))

    def timed(self, layer, x, valid_lens, need_weights, training):
        x, valid_lens = tf.constant(x), tf.constant(valid_lens)

        # Lengths are an argument, or they would be folded into the graph.
        call = _once(_step, layer) if training else _once(_forward, layer, need_weights)
        return lambda: call(x, valid_lens)  # on a CPU a call returns when its results are there

    def product(self, size):
        matrix, multiply = tf.random.uniform((size, size)), _once(tf.matmul)
        return lambda: multiply(matrix, matrix)

    def settings(self):
        return {
            "devices": ", ".join(device.name for device in tf.config.list_logical_devices()),
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or "all",
            "TF32 products": tf.config.experimental.tensor_float_32_execution_enabled(),
        }


def _once(function, *arguments):
    """A graph that is traced at its first call. All graphs of one function would be counted together, and warned of."""
    return tf.function(partial(function, *arguments))


def _forward(layer, need_weights, x, valid_lens):
    return layer(x, x, x, valid_lens, need_weights=need_weights)


def _step(layer, x, valid_lens):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x, x, x, valid_lens, training=True))
    return tape.gradient(total, [x, *layer.trainable_variables])
