"""Scoring modules in Keras. Beside the shared arguments: `seed`, for dropout, and a layer's `dtype` and `name`."""

import math
from functools import partial

import keras
import tensorflow as tf
from keras import layers

from tf_impl.checks import check_dropout, check_inputs, check_scores, check_sizes


def masked_softmax(scores, valid_lens=None):
    """Softmax over keys in which positions at or past the valid length get weight 0 (d2l 11.3.2.1).

    scores: (batch, queries, keys), floating. valid_lens: None, or integers of shape (batch,)
    or (batch, queries). Returns weights of the shape and dtype of scores; each row sums to 1.
    A masked score is replaced by the dtype's most negative finite number, so a row whose valid
    length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or no keys.
    """
    check_scores(scores, valid_lens)
    if valid_lens is not None:
        if valid_lens.shape.rank == 1:
            valid_lens = valid_lens[:, None]
        positions = tf.range(tf.shape(scores, tf.int64)[-1])
        attend = positions < tf.cast(valid_lens, tf.int64)[:, :, None]  # (batch, queries or 1, keys)
        scores = tf.where(attend, scores, scores.dtype.min)
    wide = tf.float64 if scores.dtype == tf.float64 else tf.float32  # sums are not left to half precision
    return tf.cast(tf.nn.softmax(tf.cast(scores, wide), axis=-1), scores.dtype)


class ScoredAttention(layers.Layer):
    """What the scoring modules share: scores, masked softmax, dropout, average of the values.

    A subclass gives `score(queries, keys) -> (batch, queries, keys)`.
    """

    query_size = key_size = None

    def __init__(self, dropout, *, seed=None, **kwargs):
        check_dropout(dropout)
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.attention_weights = None

    def __call__(self, queries, keys, values, valid_lens=None, **kwargs):
        # Not in `call`, where Keras would rewrite the words of an error.
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size)
        return super().__call__(queries, keys, values, valid_lens, **kwargs)

    def call(self, queries, keys, values, valid_lens=None, *, need_weights=False, training=None):
        """Averages the values, each weighted by how its key scores against the query.

        queries: (batch, queries, query_size). keys: (batch, keys, key_size). values: (batch,
        keys, width). valid_lens: as in `masked_softmax`. Returns (batch, queries, width), with
        need_weights=True the pair of it and the weights before dropout, (batch, queries, keys).
        Raises TypeError for a wrong dtype, ValueError for shapes that do not fit each other.
        """
        weights = masked_softmax(self.score(queries, keys), valid_lens)
        if tf.executing_eagerly():  # an attribute would leak a symbolic tensor
            self.attention_weights = tf.stop_gradient(weights)
        output = self.dropout(weights, training=training) @ values
        return (output, weights) if need_weights else output

    def compute_output_shape(self, queries_shape, keys_shape, values_shape, valid_lens_shape=None):
        return (*queries_shape[:2], values_shape[-1])

    def compute_output_spec(self, queries, keys, values, valid_lens=None, *, need_weights=False, training=None):
        output = (*queries.shape[:2], values.shape[-1])
        weights = (*queries.shape[:2], keys.shape[1])
        output, weights = (keras.KerasTensor(shape, self.compute_dtype) for shape in (output, weights))
        return (output, weights) if need_weights else output

    def get_config(self):
        return super().get_config() | {"dropout": self.dropout.rate, "seed": self.dropout.seed}


@keras.saving.register_keras_serializable(package="trihead")
class DotProductAttention(ScoredAttention):
    """Scaled dot-product attention (d2l 11.3.3; Vaswani et al. 2017, section 3.2.1).

    dropout: probability in [0, 1) of dropping an attention weight in training. The queries and
    the keys have one width.
    """

    def score(self, queries, keys):
        """Returns queries . keys / sqrt(width), (batch, queries, keys)."""
        return tf.matmul(queries / math.sqrt(queries.shape[-1]), keys, transpose_b=True)


@keras.saving.register_keras_serializable(package="trihead")
class AdditiveAttention(ScoredAttention):
    """Additive attention (d2l 11.3.4; Bahdanau et al. 2015): w_v . tanh(W_q query + W_k key).

    key_size, query_size: the widths of keys and queries. num_hiddens: the width of the hidden
    layer. dropout: probability in [0, 1) of dropping an attention weight in training.
    """

    def __init__(self, key_size, query_size, num_hiddens, dropout, *, seed=None, **kwargs):
        check_sizes(key_size=key_size, query_size=query_size, num_hiddens=num_hiddens)
        super().__init__(dropout, seed=seed, **kwargs)
        self.key_size, self.query_size = key_size, query_size
        linear = partial(layers.Dense, use_bias=False, dtype=self.dtype_policy)
        self.W_k = linear(num_hiddens, name="W_k")
        self.W_q = linear(num_hiddens, name="W_q")
        self.w_v = linear(1, name="w_v")
        self.build()

    def build(self):
        """Makes the parameters, whose sizes the constructor was given."""
        self.W_k.build((None, None, self.key_size))
        self.W_q.build((None, None, self.query_size))
        self.w_v.build((None, None, None, self.W_q.units))

    def get_build_config(self):
        return None  # built by the constructor

    def score(self, queries, keys):
        """Returns w_v . tanh(W_q query + W_k key), (batch, queries, keys)."""
        queries, keys = self.W_q(queries)[:, :, None], self.W_k(keys)[:, None]
        return tf.squeeze(self.w_v(tf.tanh(queries + keys)), -1)

    def get_config(self):
        sizes = {"key_size": self.key_size, "query_size": self.query_size, "num_hiddens": self.W_q.units}
        return super().get_config() | sizes
