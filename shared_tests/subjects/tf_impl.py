"""`tf_impl` as a subject."""

from functools import partial

from shared_tests.harness.subject import Implementation, quietly
from shared_tests.harness.training import BETAS, EPSILON

with quietly():
    import keras
    import tensorflow as tf

    import tf_impl

    tf.matmul(tf.zeros((1, 1), tf.float16), tf.zeros((1, 1), tf.float16))  # it has words on devices and on halves


class TfImpl(Implementation):
    name = "tf_impl"
    package = tf_impl

    def make(self, name, *arguments, dtype="float32", **options):
        return getattr(tf_impl, name)(*arguments, dtype=dtype, **options)

    def with_mask(self, model, keep):
        layer, dtype = model
        layer.attention.dropout = Mask(self.tensor(keep.reshape(-1, *keep.shape[2:]), dtype))
        return layer, dtype

    def reseed(self, layer):
        if layer.attention.dropout.rate:
            layer.attention.dropout.seed_generator.state.assign((0, 0))

    def training(self, layer):
        return partial(layer, training=True)

    def tensor(self, array, dtype):
        return tf.cast(array, dtype) if array.dtype.kind == "f" else tf.constant(array)

    def array(self, tensor):
        return (tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tf.convert_to_tensor(tensor)).numpy()

    def compiled(self, function, *arrays, dtype):
        tensors = [self.tensor(x, dtype) for x in arrays]
        shapes = [(None, None, x.shape[-1]) if x.ndim == 3 else (None,) * x.ndim for x in tensors]
        specs = [tf.TensorSpec(shape, x.dtype) for shape, x in zip(shapes, tensors, strict=True)]
        return tf.function(function, input_signature=specs)

    def compiled_loosely(self, function):
        return tf.function(function)

    def restored(self, layer, *arrays, dtype, folder):
        shapes = [(None, x.shape[-1]) if x.ndim == 3 else x.shape[1:] for x in arrays]
        dtypes = [dtype if x.ndim == 3 else str(x.dtype) for x in arrays]
        inputs = [keras.Input(shape, dtype=kind) for shape, kind in zip(shapes, dtypes, strict=True)]
        keras.Model(inputs, layer(*inputs)).save(folder / "layer.keras")
        model = keras.saving.load_model(folder / "layer.keras")
        return lambda *tensors: model(list(tensors))

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        inputs = [self.tensor(x, dtype) for x in (queries, keys, values)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(*inputs, None if valid_lens is None else self.tensor(valid_lens, dtype), training=True)
        sources = inputs, layer.trainable_variables
        inputs, parameters = tape.gradient(output, sources, output_gradients=self.tensor(cotangent, dtype))
        twin = type(layer).from_config(layer.get_config())
        for variable, gradient in zip(twin.trainable_variables, parameters, strict=True):
            variable.assign(gradient)
        inputs = dict(zip(("queries", "keys", "values"), map(self.array, inputs), strict=True))
        return inputs | tf_impl.export_weights(twin)

    def train(self, config, weights, batches, optimizer, rate, dtype):
        head = [keras.Variable(weights[f"head.{name}"], dtype=dtype) for name in ("weight", "bias")]
        layer, _ = self.build(config, {name: w for name, w in weights.items() if "head" not in name}, dtype)
        variables = [*layer.trainable_variables, *head]
        if optimizer == "sgd":
            update = keras.optimizers.SGD(rate)
        else:
            update = keras.optimizers.Adam(rate, *BETAS, epsilon=EPSILON)
        for rows, labels in batches:
            x = self.tensor(rows, dtype)
            with tf.GradientTape() as tape:
                logits = tf.reduce_mean(layer(x, x, x), axis=1) @ tf.transpose(head[0]) + head[1]
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            update.apply(tape.gradient(loss, variables), variables)
            weight, bias = map(self.array, head)
            yield float(loss), tf_impl.export_weights(layer) | {"head.weight": weight, "head.bias": bias}

    def timed(self, layer, x, valid_lens, need_weights, training):
        x, valid_lens = tf.constant(x), tf.constant(valid_lens)

        @tf.function
        def forward(x, valid_lens):
            return layer(x, x, x, valid_lens, need_weights=need_weights)

        @tf.function
        def step(x, valid_lens):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(layer(x, x, x, valid_lens, training=True))
            return tape.gradient(total, [x, *layer.trainable_variables])

        call = step if training else forward  # lengths are an argument, or they would be folded into the graph
        return lambda: call(x, valid_lens)  # on a CPU a call returns when its results are there

    def product(self, size):
        matrix, multiply = tf.random.uniform((size, size)), tf.function(tf.matmul)
        return lambda: multiply(matrix, matrix)

    def settings(self):
        return {
            "devices": ", ".join(device.name for device in tf.config.list_logical_devices()),
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or "all",
            "TF32 products": tf.config.experimental.tensor_float_32_execution_enabled(),
        }


class Mask:
    """Dropout that keeps what it is told to. No Keras layer: one that is built takes no other."""

    rate, seed = 0.0, None

    def __init__(self, keep):
        self.keep = keep

    def __call__(self, weights, training):
        return weights * self.keep
