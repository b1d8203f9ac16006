"""The layer in flax nnx. Beside the shared arguments: `rngs`, `dtype` and `param_dtype`."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from jax_impl.attention import DotProductAttention, Lengths, Randomness
from jax_impl.checks import (
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
    x: Float[Array, "batch length hidden"], num_heads: int
) -> Float[Array, "batch*{num_heads} length hidden//{num_heads}"]:
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

    >>> transpose_qkv(jnp.ones((2, 4, 100)), num_heads=5).shape
    (10, 4, 20)
    """
    batch, length, hidden = check_array("x", x, "float", "batch", "length", "hidden")
    check_heads("x: hidden", hidden, num_heads)
    x = x.reshape(batch, length, num_heads, hidden // num_heads)
    x = x.swapaxes(1, 2)  # (batch, heads, length, head_dim)
    return x.reshape(batch * num_heads, length, hidden // num_heads)


def transpose_output(
    x: Float[Array, "entries length head_dim"], num_heads: int
) -> Float[Array, "entries//{num_heads} length head_dim*{num_heads}"]:
    """Inverts `transpose_qkv` (d2l 11.5.2).

    Args:
        x: (batch * num_heads, length, head_dim), floating.
        num_heads: a divisor of the first axis.

    Returns:
        (batch, length, num_heads * head_dim).

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape.

    >>> transpose_output(jnp.ones((10, 4, 20)), num_heads=5).shape
    (2, 4, 100)
    """
    entries, length, head_dim = check_array("x", x, "float", "batch*heads", "length", "head_dim")
    check_heads("x: batch*heads", entries, num_heads)
    x = x.reshape(entries // num_heads, num_heads, length, head_dim)
    x = x.swapaxes(1, 2)  # (batch, length, heads, head_dim)
    return x.reshape(entries // num_heads, length, num_heads * head_dim)


class MultiHeadAttention(nnx.Module):
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

    >>> attention = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.5, rngs=nnx.Rngs(0))
    >>> attention.eval()
    >>> X, Y, valid_lens = jnp.ones((2, 4, 100)), jnp.ones((2, 6, 100)), jnp.array([3, 2])
    >>> output, weights = attention(X, Y, Y, valid_lens, need_weights=True)
    >>> output.shape, weights.shape
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
        attention: nnx.Module | None = None,
        head_dim: int | None = None,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_sizes(key_size=key_size, query_size=query_size, value_size=value_size, num_hiddens=num_hiddens)
        head_dim = check_head_dim(num_hiddens, num_heads, head_dim)
        check_dropout(dropout)
        if attention is not None:
            check_same_dropout(dropout, getattr(getattr(attention, "dropout", None), "rate", 0.0))
        dtype = jnp.dtype(dtype or param_dtype)
        check_dtype("attention", dtype, getattr(attention, "dtype", dtype))
        linear = partial(nnx.Linear, use_bias=bias, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.query_size, self.key_size, self.value_size = query_size, key_size, value_size
        self.num_hiddens, self.num_heads, self.head_dim = num_hiddens, num_heads, head_dim
        self.attention = DotProductAttention(dropout, rngs=rngs) if attention is None else attention
        self.W_q = linear(query_size, num_heads * head_dim)
        self.W_k = linear(key_size, num_heads * head_dim)
        self.W_v = linear(value_size, num_heads * head_dim)
        self.W_o = linear(num_heads * head_dim, num_hiddens)

    def __call__(
        self,
        queries: Float[Array, "batch queries query_size"],
        keys: Float[Array, "batch keys key_size"],
        values: Float[Array, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        rngs: Randomness | None = None,
    ) -> (
        Float[Array, "batch queries num_hiddens"]
        | tuple[Float[Array, "batch queries num_hiddens"], Float[Array, "batch heads queries keys"]]
    ):
        """Attends with every head, and projects what the heads found, side by side.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: integers, (batch,) or (batch, queries): a query attends to the keys before; None: to all.
            need_weights: whether to return the attention weights, too.
            rngs: the randomness of dropout in this call; None: the layer's own, whose state `jax.jit` does not keep.

        Returns:
            (batch, queries, num_hiddens); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, heads, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other or the layer.
        """
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size, self.value_size)
        batch = queries.shape[0]
        if valid_lens is not None:
            # Not along the batch itself: where a mesh divides it, JAX would ask how the result is divided.
            valid_lens = jnp.repeat(valid_lens[:, None], self.num_heads, axis=1)
            valid_lens = valid_lens.reshape(batch * self.num_heads, *valid_lens.shape[2:])
        output = self.attention(
            transpose_qkv(self.W_q(queries), self.num_heads),
            transpose_qkv(self.W_k(keys), self.num_heads),
            transpose_qkv(self.W_v(values), self.num_heads),
            valid_lens,
            need_weights=need_weights,
            rngs=rngs,
        )
        output, weights = output if need_weights else (output, None)
        output = self.W_o(transpose_output(output, self.num_heads))
        if weights is None:
            return output
        return output, weights.reshape(batch, self.num_heads, *weights.shape[1:])
