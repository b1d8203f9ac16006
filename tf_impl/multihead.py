"""The layer in Keras. Beside the shared arguments: `seed`, for dropout, and a layer's `dtype` and `name`."""

from functools import partial

import keras
import tensorflow as tf
from keras import layers, ops

from tf_impl.attention import DotProductAttention
from tf_impl.checks import check_array, check_dropout, check_dtype, check_heads, check_inputs, check_sizes


def transpose_qkv(x, num_heads):
    """Makes every head a batch entry: (batch, length, hidden) -> (batch*heads, length, depth).

    Entry b * num_heads + h of the result is head h of batch entry b, columns h * depth to
    (h + 1) * depth (d2l 11.5.2). Raises TypeError or ValueError for a wrong dtype or shape.
    """
    batch, length, hidden = check_array("x", x, "float", "batch", "length", "hidden")
    check_heads("x: hidden", hidden, num_heads)
    batch, length, hidden = ops.shape(x)  # a tensor where the graph knows no number
    x = tf.reshape(x, (batch, length, num_heads, hidden // num_heads))
    x = tf.transpose(x, (0, 2, 1, 3))  # (batch, heads, length, depth)
    return tf.reshape(x, (batch * num_heads, length, hidden // num_heads))


def transpose_output(x, num_heads):
    """Inverts `transpose_qkv`: (batch*heads, length, depth) -> (batch, length, hidden).

    d2l 11.5.2. Raises TypeError or ValueError for a wrong dtype or shape.
    """
    entries, length, depth = check_array("x", x, "float", "batch*heads", "length", "depth")
    check_heads("x: batch*heads", entries, num_heads)
    entries, length, depth = ops.shape(x)  # a tensor where the graph knows no number
    x = tf.reshape(x, (entries // num_heads, num_heads, length, depth))
    x = tf.transpose(x, (0, 2, 1, 3))  # (batch, length, heads, depth)
    return tf.reshape(x, (entries // num_heads, length, num_heads * depth))


@keras.saving.register_keras_serializable(package="trihead")
class MultiHeadAttention(layers.Layer):
    """Multi-head attention (d2l 11.5; Vaswani et al. 2017, section 3.2.2).

    W_o [head_1; ...; head_n], head_i = f(W_q,i queries, W_k,i keys, W_v,i values).

    key_size, query_size, value_size: the widths of keys, queries and values. num_hiddens: the
    width of the output, a multiple of num_heads. bias: whether the four projections have one.
    attention: the scoring module f; by default `DotProductAttention(dropout)`, while a module
    given here has a dropout of its own. Raises TypeError or ValueError, naming the argument.
    """

    def __init__(
        self,
        key_size,
        query_size,
        value_size,
        num_hiddens,
        num_heads,
        dropout,
        bias=False,
        *,
        attention=None,
        seed=None,
        **kwargs,
    ):
        check_sizes(key_size=key_size, query_size=query_size, value_size=value_size, num_hiddens=num_hiddens)
        check_heads("num_hiddens", num_hiddens, num_heads)
        check_dropout(dropout)
        super().__init__(**kwargs)
        linear = partial(layers.Dense, num_hiddens, use_bias=bias, dtype=self.dtype_policy)
        self.query_size, self.key_size, self.value_size = query_size, key_size, value_size
        self.num_heads, self.dropout = num_heads, dropout
        self.attention = attention or DotProductAttention(dropout, seed=seed, dtype=self.dtype_policy)
        check_dtype("attention", self.compute_dtype, self.attention.compute_dtype)
        self.W_q = linear(name="W_q")
        self.W_k = linear(name="W_k")
        self.W_v = linear(name="W_v")
        self.W_o = linear(name="W_o")
        self.build()

    def build(self):
        """Makes the parameters, whose sizes the constructor was given."""
        self.W_q.build((None, None, self.query_size))
        self.W_k.build((None, None, self.key_size))
        self.W_v.build((None, None, self.value_size))
        self.W_o.build((None, None, self.W_o.units))

    def get_build_config(self):
        return None  # built by the constructor

    def __call__(self, queries, keys, values, valid_lens=None, **kwargs):
        # Not in `call`, where Keras would rewrite the words of an error.
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size, self.value_size)
        return super().__call__(queries, keys, values, valid_lens, **kwargs)

    def call(self, queries, keys, values, valid_lens=None, *, need_weights=False, training=None):
        """Attends with every head and projects what the heads found, side by side.

        queries: (batch, queries, query_size). keys: (batch, keys, key_size). values: (batch,
        keys, value_size). valid_lens: None, or integers of shape (batch,) or (batch, queries).
        Returns (batch, queries, num_hiddens), with need_weights=True the pair of it and the
        weights before dropout, (batch, heads, queries, keys). Raises TypeError for a wrong
        dtype, ValueError for shapes that do not fit each other or the layer.
        """
        batch = ops.shape(queries)[0]
        if valid_lens is not None:
            valid_lens = tf.repeat(valid_lens, self.num_heads, axis=0)
        output = self.attention(
            transpose_qkv(self.W_q(queries), self.num_heads),
            transpose_qkv(self.W_k(keys), self.num_heads),
            transpose_qkv(self.W_v(values), self.num_heads),
            valid_lens,
            need_weights=need_weights,
            training=training,
        )
        output, weights = output if need_weights else (output, None)
        output = self.W_o(transpose_output(output, self.num_heads))
        return (
            (output, tf.reshape(weights, (batch, self.num_heads, *ops.shape(weights)[1:]))) if need_weights else output
        )

    def compute_output_shape(self, queries_shape, keys_shape, values_shape, valid_lens_shape=None):
        return (*queries_shape[:2], self.W_o.units)

    def compute_output_spec(self, queries, keys, values, valid_lens=None, *, need_weights=False, training=None):
        output = (*queries.shape[:2], self.W_o.units)
        weights = (queries.shape[0], self.num_heads, queries.shape[1], keys.shape[1])
        output, weights = (keras.KerasTensor(shape, self.compute_dtype) for shape in (output, weights))
        return (output, weights) if need_weights else output

    def get_config(self):
        return super().get_config() | {
            "key_size": self.key_size,
            "query_size": self.query_size,
            "value_size": self.value_size,
            "num_hiddens": self.W_o.units,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.W_o.use_bias,
            "attention": keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**config | {"attention": attention})
