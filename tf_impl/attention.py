"""Scoring modules in Keras. Beside the shared arguments: `seed`, for dropout, and a layer's `dtype` and `name`."""

import math
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from jaxtyping import Bool, Float, Integer
from keras import layers

from tf_impl.checks import check_dropout, check_inputs, check_scores, check_sizes

Lengths: TypeAlias = Integer[tf.Tensor | np.ndarray, "batch"] | Integer[tf.Tensor | np.ndarray, "batch queries"]
"""How many keys, from the first, each batch entry or each query attends to."""
Mask: TypeAlias = Bool[tf.Tensor | np.ndarray, "batch keys"]
"""A Keras mask: True where there is something, False for padding."""


def masked_softmax(
    scores: Float[tf.Tensor, "batch queries keys"], valid_lens: Lengths | None = None
) -> Float[tf.Tensor, "batch queries keys"]:
    """Softmax over the keys that a query attends to, which are those before its valid length (d2l 11.3.2.1).

    The other scores are replaced by the dtype's most negative finite number, so their attention weight is 0. A row
    whose valid length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.

    Args:
        scores: (batch, queries, keys), floating.
        valid_lens: integers, (batch,) or (batch, queries); None masks nothing.

    Returns:
        Attention weights, of the shape and dtype of `scores`. Each row sums to 1.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape, or no keys.

    >>> masked_softmax(tf.zeros((1, 1, 4)), tf.constant([2])).numpy().tolist()
    [[[0.5, 0.5, 0.0, 0.0]]]
    """
    check_scores(scores, valid_lens)
    if valid_lens is not None:
        valid_lens = tf.cast(valid_lens, tf.int64)
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None]
        positions = tf.range(tf.shape(scores, tf.int64)[-1])
        attend = positions < valid_lens[:, :, None]  # (batch, queries or 1, keys)
        scores = tf.where(attend, scores, scores.dtype.min)
    wide = tf.float64 if scores.dtype == tf.float64 else tf.float32  # half precision would lose the sum
    return tf.cast(tf.nn.softmax(tf.cast(scores, wide), axis=-1), scores.dtype)


def mask_of(keys_mask: Mask | None, values_mask: Mask | None) -> Mask | None:
    """The keys that neither mask takes away, as Keras' own layer has it; None: all of them."""
    masks = [tf.cast(mask, tf.bool) for mask in (keys_mask, values_mask) if mask is not None]
    return tf.reduce_all(masks, axis=0) if masks else None


class ScoredAttention(layers.Layer):
    """What the scoring modules share: scores, masked softmax, dropout, average of the values.

    A subclass gives `score(queries, keys) -> (batch, queries, keys)`.
    """

    query_size: int | None = None
    key_size: int | None = None

    def __init__(self, dropout: float, *, seed: int | None = None, **kwargs: Any) -> None:
        check_dropout(dropout)
        super().__init__(**kwargs)
        self.supports_masking = True  # the mask of the queries goes on with the output
        self.dropout = layers.Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.attention_weights: tf.Tensor | None = None

    def __call__(self, queries: Any, keys: Any, values: Any, valid_lens: Any = None, **kwargs: Any) -> Any:
        # Not in `call`, where Keras would rewrite the words of an error.
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size)
        return super().__call__(queries, keys, values, valid_lens, **kwargs)

    def call(
        self,
        queries: Float[tf.Tensor, "batch queries query_size"],
        keys: Float[tf.Tensor, "batch keys key_size"],
        values: Float[tf.Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        training: bool | None = None,
        keys_mask: Mask | None = None,
        values_mask: Mask | None = None,
    ) -> (
        Float[tf.Tensor, "batch queries value_size"]
        | tuple[Float[tf.Tensor, "batch queries value_size"], Float[tf.Tensor, "batch queries keys"]]
    ):
        """Averages the values, each weighted by how its key scores against the query.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: whether to return the attention weights, too.
            training: whether to drop attention weights.
            keys_mask: (batch, keys), which Keras takes from its own mask on `keys`: False hides a key.
            values_mask: the same, from the mask on `values`.

        Returns:
            (batch, queries, value_size); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other.
        """
        scores, mask = self.score(queries, keys), mask_of(keys_mask, values_mask)
        if mask is not None:
            scores = tf.where(mask[:, None], scores, scores.dtype.min)
        weights = masked_softmax(scores, valid_lens)
        if tf.executing_eagerly():  # an attribute would leak a symbolic tensor
            self.attention_weights = tf.stop_gradient(weights)
        output = self.dropout(weights, training=training) @ values
        return (output, weights) if need_weights else output

    def score(
        self, queries: Float[tf.Tensor, "batch queries query_size"], keys: Float[tf.Tensor, "batch keys key_size"]
    ) -> Float[tf.Tensor, "batch queries keys"]:
        """Says how well each key fits each query: what a subclass gives."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method score(queries, keys)")

    def compute_output_shape(self, queries_shape, keys_shape, values_shape, valid_lens_shape=None):
        return (*queries_shape[:2], values_shape[-1])

    def compute_output_spec(self, queries, keys, values, valid_lens=None, *, need_weights=False, **kwargs):
        output = (*queries.shape[:2], values.shape[-1])
        weights = (*queries.shape[:2], keys.shape[1])
        output, weights = (keras.KerasTensor(shape, self.compute_dtype) for shape in (output, weights))
        return (output, weights) if need_weights else output

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dropout": self.dropout.rate, "seed": self.dropout.seed}


@keras.saving.register_keras_serializable(package="trihead")
class DotProductAttention(ScoredAttention):
    """Scaled dot-product attention (d2l 11.3.3; Vaswani et al. 2017, section 3.2.1).

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = DotProductAttention(dropout=0.5)
    >>> queries, keys, values = tf.ones((2, 1, 2)), tf.ones((2, 10, 2)), tf.ones((2, 10, 4))
    >>> tuple(attention(queries, keys, values, tf.constant([2, 6])).shape)
    (2, 1, 4)
    """

    def score(
        self, queries: Float[tf.Tensor, "batch queries head_dim"], keys: Float[tf.Tensor, "batch keys head_dim"]
    ) -> Float[tf.Tensor, "batch queries keys"]:
        """Returns queries . keys / sqrt(head_dim)."""
        return tf.matmul(queries / math.sqrt(queries.shape[-1]), keys, transpose_b=True)


@keras.saving.register_keras_serializable(package="trihead")
class AdditiveAttention(ScoredAttention):
    """Additive attention (d2l 11.3.4; Bahdanau et al. 2015): the score is w_v . tanh(W_q query + W_k key).

    Args:
        key_size: the width of the keys.
        query_size: the width of the queries.
        num_hiddens: the width of the hidden layer.
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    Raises:
        TypeError: for a size that is no integer, or a dropout that is no number.
        ValueError: for a size below 1, or a dropout outside [0, 1).

    >>> attention = AdditiveAttention(key_size=2, query_size=20, num_hiddens=8, dropout=0.1)
    >>> queries, keys, values = tf.ones((2, 1, 20)), tf.ones((2, 10, 2)), tf.ones((2, 10, 4))
    >>> tuple(attention(queries, keys, values, tf.constant([2, 6])).shape)
    (2, 1, 4)
    """

    def __init__(
        self,
        key_size: int,
        query_size: int,
        num_hiddens: int,
        dropout: float,
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_sizes(key_size=key_size, query_size=query_size, num_hiddens=num_hiddens)
        super().__init__(dropout, seed=seed, **kwargs)
        self.key_size, self.query_size, self.num_hiddens = key_size, query_size, num_hiddens
        linear = partial(layers.Dense, use_bias=False, dtype=self.dtype_policy)
        self.W_k = linear(num_hiddens, name="W_k")
        self.W_q = linear(num_hiddens, name="W_q")
        self.w_v = linear(1, name="w_v")
        self.build()

    def build(self) -> None:
        """Makes the parameters, whose sizes the constructor was given."""
        self.W_k.build((None, None, self.key_size))
        self.W_q.build((None, None, self.query_size))
        self.w_v.build((None, None, None, self.num_hiddens))

    def get_build_config(self) -> None:
        return None  # built by the constructor

    def score(
        self, queries: Float[tf.Tensor, "batch queries query_size"], keys: Float[tf.Tensor, "batch keys key_size"]
    ) -> Float[tf.Tensor, "batch queries keys"]:
        """Returns w_v . tanh(W_q query + W_k key)."""
        queries, keys = self.W_q(queries)[:, :, None], self.W_k(keys)[:, None]
        return tf.squeeze(self.w_v(tf.tanh(queries + keys)), -1)

    def get_config(self) -> dict[str, Any]:
        sizes = {name: getattr(self, name) for name in ("key_size", "query_size", "num_hiddens")}
        return super().get_config() | sizes

    def __repr__(self) -> str:
        sizes = f"key_size={self.key_size}, query_size={self.query_size}, num_hiddens={self.num_hiddens}"
        return f"<{type(self).__name__} name={self.name}, {sizes}>"
