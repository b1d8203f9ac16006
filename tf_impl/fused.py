"""Dot-product attention in Keras, of inputs of any length."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from jaxtyping import Float
from keras import ops

from tf_impl.attention import DotProductAttention, Lengths, Mask, mask_of, masked_softmax
from tf_impl.checks import check_fused, check_inputs


@keras.saving.register_keras_serializable(package="trihead")
class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: about `block` scores are held at a time, and the backward pass computes
    them again.

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = FusedDotProductAttention(dropout=0.0)
    >>> queries, keys, values = tf.ones((2, 1, 2)), tf.ones((2, 10, 2)), tf.ones((2, 10, 4))
    >>> tuple(attention(queries, keys, values, tf.constant([2, 6])).shape)
    (2, 1, 4)
    """

    block = 2**20  # 4 MB of float32, measured beside its half and its double (docs/adr/0007)

    def __call__(
        self, queries: Any, keys: Any, values: Any, valid_lens: Any = None, *, need_weights: bool = False, **kwargs: Any
    ) -> Any:
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        return super().__call__(queries, keys, values, valid_lens, **kwargs)

    def call(
        self,
        queries: Float[tf.Tensor, "batch queries head_dim"],
        keys: Float[tf.Tensor, "batch keys head_dim"],
        values: Float[tf.Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        training: bool | None = None,
        keys_mask: Mask | None = None,
        values_mask: Mask | None = None,
    ) -> Float[tf.Tensor, "batch queries value_size"]:
        """Averages the values as `DotProductAttention` does.

        Args:
            queries: (batch, queries, head_dim), floating.
            keys: (batch, keys, head_dim).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: must be False.
            training: whether to drop attention weights.
            keys_mask: (batch, keys), which Keras takes from its own mask on `keys`: False hides a key.
            values_mask: the same, from the mask on `values`.

        Returns:
            (batch, queries, value_size).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other, or need_weights=True.
        """
        (batch, length, _), num_keys = ops.shape(queries), ops.shape(keys)[1]
        seed = self.dropout.seed_generator.next() if self._drops(training) else None
        mask = mask_of(keys_mask, values_mask)
        if _at_most(self.block, batch, length, num_keys):
            return self._attend(queries, keys, values, valid_lens, mask, seed)
        lens = tf.fill((batch, 1), num_keys) if valid_lens is None else valid_lens
        lens = lens[:, None] if lens.ndim == 1 else lens
        lens = tf.broadcast_to(tf.cast(lens, tf.int64), (batch, length))
        numbers = tf.reshape(tf.range(batch * length), (batch, length))  # of the queries: every block has its own seed
        fits = _at_most(self.block, length, num_keys)

        def attend(queries, keys, values, lens, numbers, *masks):
            mask = masks[0] if masks else None
            if mask is None:  # no query attends beyond the longest
                longest = tf.where(tf.reduce_all(lens > 0), tf.reduce_max(lens), tf.cast(num_keys, tf.int64))
                keys, values = keys[:, :longest], values[:, :longest]
            if fits:
                return self._attend(queries, keys, values, lens, mask, _fold(seed, numbers))

            def attend_rows(*block):
                queries, lens, numbers = (x[None] for x in block)
                return self._attend(queries, keys, values, lens, mask, _fold(seed, numbers))[0]

            return _map(attend_rows, (queries[0], lens[0], numbers[0]), self.block // num_keys)[None]

        at_once = self.block // max(length * num_keys, 1) if fits else 1
        masks = () if mask is None else (mask,)
        return _map(attend, (queries, keys, values, lens, numbers, *masks), at_once)

    def _attend(self, queries, keys, values, valid_lens, mask, seed) -> tf.Tensor:
        """The average for a block of queries; its gradient computes the attention weights again."""
        num_keys = tf.shape(keys, tf.int64)[1]
        lens = tf.fill((1, 1), num_keys) if valid_lens is None else tf.cast(valid_lens, tf.int64)
        lens = lens[:, None] if lens.ndim == 1 else lens

        def attention_weights():
            scores = self.score(queries, keys)
            if mask is not None:
                scores = tf.where(mask[:, None], scores, scores.dtype.min)
            if valid_lens is None:
                return masked_softmax(scores)
            whole = tf.reduce_all(lens >= num_keys)
            return tf.cond(whole, lambda: masked_softmax(scores), lambda: masked_softmax(scores, valid_lens))

        def with_key():
            """Rows that attend to a key. Any other is uniform, whatever its scores, so they get no gradient."""
            if mask is None:
                return lens[:, :, None] > 0
            attend = mask[:, None] & (tf.range(num_keys) < lens[:, :, None])
            return tf.reduce_any(attend, axis=-1, keepdims=True)

        def drop(x):
            return x if seed is None else tf.nn.experimental.stateless_dropout(x, self.dropout.rate, seed)

        @tf.custom_gradient  # tf.recompute_grad copies its arguments
        def average(queries, keys, values):
            output = drop(attention_weights()) @ values

            def backward(dO):
                """Dao et al. 2022, appendix B.2, with the scale of the scores taken into dO, the smallest array."""
                P = attention_weights()
                scaled = dO / math.sqrt(queries.shape[-1])
                if valid_lens is not None or mask is not None:
                    scaled = tf.where(with_key(), scaled, 0)
                dP = drop(tf.matmul(scaled, values, transpose_b=True))
                dS = P * (dP - tf.reduce_sum(scaled * output, axis=-1, keepdims=True))
                dQ, dK = dS @ keys, tf.matmul(dS, queries, transpose_a=True)
                return dQ, dK, tf.matmul(drop(P), dO, transpose_a=True)

            return output, backward

        return average(queries, keys, values)

    def _drops(self, training: bool | None) -> bool:
        return bool(training) and self.dropout.rate > 0


def _at_most(limit: int, *sizes: Any) -> bool:
    """Whether the product of sizes is known and within a limit; one that a graph does not know is a tensor."""
    return all(isinstance(size, int) for size in sizes) and math.prod(sizes) <= limit


def _fold(seed: tf.Tensor | None, numbers: tf.Tensor) -> tf.Tensor | None:
    """A seed of a block's own, by the number of its first query."""
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, numbers[0, 0])


def _map(function: Callable[..., tf.Tensor], arrays: tuple[tf.Tensor, ...], size: Any) -> tf.Tensor:
    """What `jax.lax.map` is in JAX: the function over parts of `size` along the first axis, two at a time."""
    total = ops.shape(arrays[0])[0]
    size = tf.clip_by_value(size, 1, tf.maximum(total, 1))
    parts = tf.maximum(-(-total // size), 1)

    def split(x):
        x = tf.pad(x, [(0, parts * size - total), *[(0, 0)] * (x.ndim - 1)])
        return tf.reshape(x, (parts, size, *ops.shape(x)[1:]))

    options = {"parallel_iterations": 2, "fn_output_signature": arrays[0].dtype}  # by default a graph holds ten
    output = tf.map_fn(lambda part: function(*part), [*map(split, arrays)], **options)
    return tf.reshape(output, (parts * size, *ops.shape(output)[2:]))[:total]
