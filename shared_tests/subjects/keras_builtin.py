"""`keras.layers.MultiHeadAttention`, to be timed beside `tf_impl`."""

from shared_tests.harness.subject import quietly
from shared_tests.subjects.tf_impl import TfImpl

with quietly():
    import tensorflow as tf
    from keras import layers


class KerasBuiltin(TfImpl):
    name = "keras_builtin"
    judged = False

    def make(self, name, *, query_size, num_hiddens, num_heads, bias, dropout, **sizes):
        return Own(query_size, num_heads, bias)


class Own(layers.Layer):
    """Called as ours is."""

    def __init__(self, width, num_heads, bias):
        super().__init__()
        self.layer = layers.MultiHeadAttention(num_heads, width // num_heads, use_bias=bias)
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
