"""`keras.layers.MultiHeadAttention`, to be timed beside `tf_impl`."""

from shared_tests.subjects._tf import TensorFlow, keras, tf


class KerasBuiltin:
    name = "keras_builtin"

    def __init__(self):
        self.backend = TensorFlow()

    def make(self, width, num_heads):
        with self.backend.numbers("float32"):
            return Own(width, num_heads)


class Own(keras.layers.Layer):
    """Called as ours is."""

    def __init__(self, width, num_heads):
        super().__init__()
        self.layer = keras.layers.MultiHeadAttention(num_heads, width // num_heads, use_bias=False)
        self.layer.build((None, None, width), (None, None, width))

    def call(self, queries, keys, values, valid_lens, need_weights=False, training=None):
        attend = tf.sequence_mask(valid_lens, tf.shape(keys)[1])[:, None]
        return self.layer(
            queries,
            values,
            keys,
            attention_mask=attend,
            return_attention_scores=need_weights,
            training=training,
        )
