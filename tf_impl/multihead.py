"""The layer in Keras. Beside the shared arguments: `seed`, for dropout, and a layer's `dtype` and `name`."""

from functools import partial
from typing import Any

import keras
import tensorflow as tf
from jaxtyping import Float
from keras import layers, ops

from tf_impl.attention import DotProductAttention, Lengths, Mask, mask_of
from tf_impl.checks import (
    check_array,
    check_dropout,
    check_dtype,
    check_head_dim,
    check_heads,
    check_inputs,
    check_same_dropout,
    check_sizes,
)


def transpose_qkv(
    x: Float[tf.Tensor, "batch length hidden"], num_heads: int
) -> Float[tf.Tensor, "batch*{num_heads} length hidden//{num_heads}"]:
    """Makes every head a batch entry (d2l 11.5.2).

    Entry b * num_heads + h of the result is head h of batch entry b: columns h * head_dim to (h + 1) * head_dim.

    Args:
        x: (batch, length, hidden), floating.
        num_heads: a divisor of hidden.

    Returns:
        (batch * num_heads, length, head_dim), where head_dim is hidden / num_heads.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape.

    >>> tuple(transpose_qkv(tf.ones((2, 4, 100)), num_heads=5).shape)
    (10, 4, 20)
    """
    batch, length, hidden = check_array("x", x, "float", "batch", "length", "hidden")
    check_heads("x: hidden", hidden, num_heads)
    batch, length, hidden = ops.shape(x)  # a tensor where the graph knows no number
    x = tf.reshape(x, (batch, length, num_heads, hidden // num_heads))
    x = tf.transpose(x, (0, 2, 1, 3))  # (batch, heads, length, head_dim)
    return tf.reshape(x, (batch * num_heads, length, hidden // num_heads))


def transpose_output(
    x: Float[tf.Tensor, "entries length head_dim"], num_heads: int
) -> Float[tf.Tensor, "entries//{num_heads} length head_dim*{num_heads}"]:
    """Inverts `transpose_qkv` (d2l 11.5.2).

    Args:
        x: (batch * num_heads, length, head_dim), floating.
        num_heads: a divisor of the first axis.

    Returns:
        (batch, length, num_heads * head_dim).

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape.

    >>> tuple(transpose_output(tf.ones((10, 4, 20)), num_heads=5).shape)
    (2, 4, 100)
    """
    entries, length, head_dim = check_array("x", x, "float", "batch*heads", "length", "head_dim")
    check_heads("x: batch*heads", entries, num_heads)
    entries, length, head_dim = ops.shape(x)  # a tensor where the graph knows no number
    x = tf.reshape(x, (entries // num_heads, num_heads, length, head_dim))
    x = tf.transpose(x, (0, 2, 1, 3))  # (batch, length, heads, head_dim)
    return tf.reshape(x, (entries // num_heads, length, num_heads * head_dim))


@keras.saving.register_keras_serializable(package="trihead")
class MultiHeadAttention(layers.Layer):
    """Multi-head attention (d2l 11.5; Vaswani et al. 2017, section 3.2.2).

    W_o [head_1; ...; head_n], head_i = f(W_q,i queries, W_k,i keys, W_v,i values).

    Args:
        key_size: the width of the keys.
        query_size: the width of the queries.
        value_size: the width of the values.
        num_hiddens: the width of the output.
        num_heads: how many heads; a divisor of num_hiddens, unless head_dim is given.
        dropout: the probability, in [0, 1), of dropping an attention weight in training.
        bias: whether the four projections have one.
        attention: the scoring module f, of the same dropout; None: `DotProductAttention(dropout)`.
        head_dim: the width of a head; None: num_hiddens / num_heads.

    Raises:
        TypeError: for a size that is no integer, or a dropout that is no number.
        ValueError: for a size below 1, heads that do not divide num_hiddens, a dropout outside [0, 1), or an
            `attention` of another dropout.

    >>> attention = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.5)
    >>> X, Y, valid_lens = tf.ones((2, 4, 100)), tf.ones((2, 6, 100)), tf.constant([3, 2])
    >>> output, weights = attention(X, Y, Y, valid_lens, need_weights=True)
    >>> tuple(output.shape), tuple(weights.shape)
    ((2, 4, 100), (2, 5, 4, 6))
    """

    def __init__(
        self,
        key_size: int,
        query_size: int,
        value_size: int,
        num_hiddens: int,
        num_heads: int,
        dropout: float,
        bias: bool = False,
        *,
        attention: layers.Layer | None = None,
        head_dim: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_sizes(key_size=key_size, query_size=query_size, value_size=value_size, num_hiddens=num_hiddens)
        head_dim = check_head_dim(num_hiddens, num_heads, head_dim)
        check_dropout(dropout)
        if attention is not None:
            check_same_dropout(dropout, getattr(getattr(attention, "dropout", None), "rate", 0.0))
        super().__init__(**kwargs)
        self.supports_masking = True  # the mask of the queries goes on with the output
        if attention is None:
            attention = DotProductAttention(dropout, seed=seed, dtype=self.dtype_policy)
        check_dtype("attention", self.compute_dtype, attention.compute_dtype)
        linear = partial(layers.Dense, use_bias=bias, dtype=self.dtype_policy)
        self.query_size, self.key_size, self.value_size = query_size, key_size, value_size
        self.num_hiddens, self.num_heads, self.head_dim = num_hiddens, num_heads, head_dim
        self.dropout, self.attention = dropout, attention
        self.W_q = linear(num_heads * head_dim, name="W_q")
        self.W_k = linear(num_heads * head_dim, name="W_k")
        self.W_v = linear(num_heads * head_dim, name="W_v")
        self.W_o = linear(num_hiddens, name="W_o")
        self.build()

    def build(self) -> None:
        """Makes the parameters, whose sizes the constructor was given."""
        self.W_q.build((None, None, self.query_size))
        self.W_k.build((None, None, self.key_size))
        self.W_v.build((None, None, self.value_size))
        self.W_o.build((None, None, self.num_heads * self.head_dim))

    def get_build_config(self) -> None:
        return None  # built by the constructor

    def __call__(self, queries: Any, keys: Any, values: Any, valid_lens: Any = None, **kwargs: Any) -> Any:
        # Not in `call`, where Keras would rewrite the words of an error.
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size, self.value_size)
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
        Float[tf.Tensor, "batch queries num_hiddens"]
        | tuple[Float[tf.Tensor, "batch queries num_hiddens"], Float[tf.Tensor, "batch heads queries keys"]]
    ):
        """Attends with every head, and projects what the heads found, side by side.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: integers, (batch,) or (batch, queries): a query attends to the keys before; None: to all.
            need_weights: whether to return the attention weights, too.
            training: whether to drop attention weights.
            keys_mask: (batch, keys), which Keras takes from its own mask on `keys`: False hides a key.
            values_mask: the same, from the mask on `values`.

        Returns:
            (batch, queries, num_hiddens); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, heads, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other or the layer.
        """
        batch, mask = ops.shape(queries)[0], mask_of(keys_mask, values_mask)
        if valid_lens is not None:
            valid_lens = tf.repeat(valid_lens, self.num_heads, axis=0)
        output = self.attention(
            transpose_qkv(self.W_q(queries), self.num_heads),
            transpose_qkv(self.W_k(keys), self.num_heads),
            transpose_qkv(self.W_v(values), self.num_heads),
            valid_lens,
            need_weights=need_weights,
            training=training,
            **({} if mask is None else {"keys_mask": tf.repeat(mask, self.num_heads, axis=0)}),
        )
        output, weights = output if need_weights else (output, None)
        output = self.W_o(transpose_output(output, self.num_heads))
        if weights is None:
            return output
        return output, tf.reshape(weights, (batch, self.num_heads, *ops.shape(weights)[1:]))

    def compute_output_shape(self, queries_shape, keys_shape, values_shape, valid_lens_shape=None):
        return (*queries_shape[:2], self.num_hiddens)

    def compute_output_spec(self, queries, keys, values, valid_lens=None, *, need_weights=False, **kwargs):
        output = (*queries.shape[:2], self.num_hiddens)
        weights = (queries.shape[0], self.num_heads, queries.shape[1], keys.shape[1])
        output, weights = (keras.KerasTensor(shape, self.compute_dtype) for shape in (output, weights))
        return (output, weights) if need_weights else output

    def get_config(self) -> dict[str, Any]:
        names = "key_size", "query_size", "value_size", "num_hiddens", "num_heads", "head_dim", "dropout"
        return super().get_config() | {
            **{name: getattr(self, name) for name in names},
            "bias": self.W_o.use_bias,
            "attention": keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MultiHeadAttention":
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**config | {"attention": attention})

    def __repr__(self) -> str:
        names = "key_size", "query_size", "value_size", "num_hiddens", "num_heads", "head_dim"
        sizes = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"<{type(self).__name__} name={self.name}, {sizes}>"
