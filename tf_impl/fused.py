"""Dot-product attention in Keras, of inputs of any length."""

import math

import keras
import tensorflow as tf
from keras import ops

from tf_impl.attention import DotProductAttention, masked_softmax
from tf_impl.checks import check_fused, check_inputs


@keras.saving.register_keras_serializable(package="trihead")
class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: some `block` scores are held at a time, and the
    backward pass computes them anew. dropout: probability in [0, 1) of dropping an attention
    weight in training.
    """

    block = 2**20  # 4 MB of float32, measured beside its half and its double (docs/adr/0007)

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
        if _at_most(self.block, entries, length, num_keys):
            return self._attend(queries, keys, values, valid_lens, seed)
        lens = tf.fill((entries, 1), num_keys) if valid_lens is None else valid_lens
        lens = lens[:, None] if lens.shape.rank == 1 else lens
        lens = tf.broadcast_to(tf.cast(lens, tf.int64), (entries, length))
        places = tf.reshape(tf.range(entries * length), (entries, length))  # for every block a seed of its own
        fits = _at_most(self.block, length, num_keys)

        def attend(queries, keys, values, lens, places):
            far = tf.where(tf.reduce_all(lens > 0), tf.reduce_max(lens), tf.cast(num_keys, tf.int64))
            keys, values = keys[:, :far], values[:, :far]  # past them is padding alone
            if fits:
                return self._attend(queries, keys, values, lens, _fold(seed, places))

            def rows(*block):
                queries, lens, places = (x[None] for x in block)
                return self._attend(queries, keys, values, lens, _fold(seed, places))[0]

            return _map(rows, (queries[0], lens[0], places[0]), self.block // num_keys)[None]

        at_once = self.block // max(length * num_keys, 1) if fits else 1
        return _map(attend, (queries, keys, values, lens, places), at_once)

    def _attend(self, queries, keys, values, valid_lens, seed):
        """The average for a block of queries, whose gradient computes the weights anew."""

        def weigh():
            scores = self.score(queries, keys)
            if valid_lens is None:
                return masked_softmax(scores)
            whole = tf.reduce_all(tf.cast(valid_lens, tf.int64) >= tf.shape(keys, tf.int64)[1])
            return tf.cond(whole, lambda: masked_softmax(scores), lambda: masked_softmax(scores, valid_lens))

        def drop(x):
            return x if seed is None else tf.nn.experimental.stateless_dropout(x, self.dropout.rate, seed)

        @tf.custom_gradient  # tf.recompute_grad copies its arguments
        def average(queries, keys, values):
            output = drop(weigh()) @ values

            def backward(gradient):
                weights, pull = weigh(), gradient / math.sqrt(queries.shape[-1])
                if valid_lens is not None:  # a row without a valid key is uniform whatever its scores
                    lens = valid_lens[:, None] if valid_lens.shape.rank == 1 else valid_lens
                    pull = tf.where(lens[:, :, None] > 0, pull, 0)
                change = drop(tf.matmul(pull, values, transpose_b=True))
                change = weights * (change - tf.reduce_sum(pull * output, axis=-1, keepdims=True))
                by_queries, by_keys = change @ keys, tf.matmul(change, queries, transpose_a=True)
                return by_queries, by_keys, tf.matmul(drop(weights), gradient, transpose_a=True)

            return output, backward

        return average(queries, keys, values)

    def _drops(self, training):
        return bool(training) and self.dropout.rate > 0


def _at_most(limit, *sizes):
    # Sizes that a graph does not know while it is traced are tensors.
    return all(isinstance(size, int) for size in sizes) and math.prod(sizes) <= limit


def _fold(seed, places):
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, places[0, 0])


def _map(function, arrays, size):
    """The function over parts of `size` along the first axis, two at a time, else as `jax.lax.map` has it."""
    total = ops.shape(arrays[0])[0]
    size = tf.clip_by_value(size, 1, tf.maximum(total, 1))
    parts = tf.maximum(-(-total // size), 1)

    def split(x):
        x = tf.pad(x, [(0, parts * size - total), *[(0, 0)] * (x.shape.rank - 1)])
        return tf.reshape(x, (parts, size, *ops.shape(x)[1:]))

    options = {"parallel_iterations": 2, "fn_output_signature": arrays[0].dtype}  # by default a graph holds ten
    output = tf.map_fn(lambda part: function(*part), [*map(split, arrays)], **options)
    return tf.reshape(output, (parts * size, *ops.shape(output)[2:]))[:total]
