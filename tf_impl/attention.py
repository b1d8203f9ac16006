"""Scoring modules in Keras. Beside the shared arguments: `seed`, for dropout, and a layer's `dtype` and `name`."""

import math
from functools import partial

import keras
import tensorflow as tf
from keras import layers, ops

from tf_impl.checks import check_dropout, check_fused, check_inputs, check_scores, check_sizes


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


@keras.saving.register_keras_serializable(package="trihead")
class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: some `block` scores are held at a time, and the
    backward pass computes them anew. dropout: probability in [0, 1) of dropping an attention
    weight in training.
    """

    block = 2**21  # 8 MB of float32: in the cache still, and long enough for products to be fast

    def __call__(self, queries, keys, values, valid_lens=None, *, need_weights=False, **kwargs):
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        return super().__call__(queries, keys, values, valid_lens, **kwargs)

    def call(self, queries, keys, values, valid_lens=None, *, need_weights=False, training=None):
        """Averages the values as `DotProductAttention` does: arguments, result and errors are as there.

        Raises ValueError also for need_weights=True.
        """
        (entries, length, _), num_keys = ops.shape(queries), ops.shape(keys)[1]
        seed = self.dropout.seed_generator.next() if self._drops(training) else None
        lens = tf.fill((entries, 1), num_keys) if valid_lens is None else valid_lens
        lens = lens[:, None] if lens.shape.rank == 1 else lens
        lens = tf.broadcast_to(tf.cast(lens, tf.int64), (entries, length))
        queries = tf.where(lens[:, :, None] > 0, queries, 0)  # scores of 0: uniform over all keys, and no gradient
        places = tf.reshape(tf.range(entries * length), (entries, length))  # for every block a seed of its own

        def attend(queries, keys, values, lens, places):
            reach = tf.where(
                tf.reduce_all(lens > 0) & (tf.size(lens) > 0), tf.reduce_max(lens), tf.cast(num_keys, tf.int64)
            )
            keys, values = keys[:, :reach], values[:, :reach]  # past them is padding alone
            if fits:
                return self._attend(queries, keys, values, lens, _fold(seed, places))

            def rows(*block):
                queries, lens, places = (x[None] for x in block)
                return self._attend(queries, keys, values, lens, _fold(seed, places))[0]

            return _map(rows, (queries[0], lens[0], places[0]), self.block // num_keys)[None]

        fits = isinstance(length, int) and isinstance(num_keys, int) and length * num_keys <= self.block
        return _map(
            attend, (queries, keys, values, lens, places), self.block // max(length * num_keys, 1) if fits else 1
        )

    def _attend(self, queries, keys, values, valid_lens, seed):
        """The average for a block of queries, whose gradient computes the weights anew."""

        def weigh():
            scores, num_keys = self.score(queries, keys), tf.shape(keys, tf.int64)[1]
            whole = tf.reduce_all(valid_lens >= num_keys)
            return tf.cond(whole, lambda: masked_softmax(scores), lambda: masked_softmax(scores, valid_lens))

        def drop(x):
            return x if seed is None else tf.nn.experimental.stateless_dropout(x, self.dropout.rate, seed)

        @tf.custom_gradient  # tf.recompute_grad copies its arguments
        def average(queries, keys, values):
            output = drop(weigh()) @ values

            def backward(gradient):
                weights = weigh()
                change = drop(tf.matmul(gradient, values, transpose_b=True))
                change = weights * (change - tf.reduce_sum(gradient * output, axis=-1, keepdims=True))
                change /= math.sqrt(queries.shape[-1])
                by_queries, by_keys = change @ keys, tf.matmul(change, queries, transpose_a=True)
                return by_queries, by_keys, tf.matmul(drop(weights), gradient, transpose_a=True)

            return output, backward

        return average(queries, keys, values)

    def _drops(self, training):
        return bool(training) and self.dropout.rate > 0


def _fold(seed, places):
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, places[0, 0])


def _map(function, arrays, size):
    """The function over parts of `size` along the first axis, one at a time, as `jax.lax.map` has it."""
    total = ops.shape(arrays[0])[0]
    if isinstance(total, int) and isinstance(size, int) and total <= max(size, 1):
        return function(*arrays)
    size = tf.clip_by_value(size, 1, tf.maximum(total, 1))
    parts = tf.maximum(-(-total // size), 1)

    def split(x):
        x = tf.pad(x, [(0, parts * size - total), *[(0, 0)] * (x.shape.rank - 1)])
        return tf.reshape(x, (parts, size, *ops.shape(x)[1:]))

    output = tf.map_fn(lambda part: function(*part), [*map(split, arrays)], fn_output_signature=arrays[0].dtype)
    return tf.reshape(output, (parts * size, *ops.shape(output)[2:]))[:total]
