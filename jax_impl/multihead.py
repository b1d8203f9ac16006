"""The layer in flax nnx. Beside the shared arguments: `rngs`, `dtype` and `param_dtype`."""

from functools import partial

import jax.numpy as jnp
from flax import nnx

from jax_impl.attention import DotProductAttention
from jax_impl.checks import check_array, check_dropout, check_dtype, check_heads, check_inputs, check_sizes


def transpose_qkv(x, num_heads):
    """Makes every head a batch entry: (batch, length, hidden) -> (batch*heads, length, depth).

    Entry b * num_heads + h of the result is head h of batch entry b, columns h * depth to
    (h + 1) * depth (d2l 11.5.2). Raises TypeError or ValueError for a wrong dtype or shape.
    """
    batch, length, hidden = check_array("x", x, "float", "batch", "length", "hidden")
    check_heads("x: hidden", hidden, num_heads)
    x = x.reshape(batch, length, num_heads, hidden // num_heads)
    x = x.swapaxes(1, 2)  # (batch, heads, length, depth)
    return x.reshape(batch * num_heads, length, hidden // num_heads)


def transpose_output(x, num_heads):
    """Inverts `transpose_qkv`: (batch*heads, length, depth) -> (batch, length, hidden).

    d2l 11.5.2. Raises TypeError or ValueError for a wrong dtype or shape.
    """
    entries, length, depth = check_array("x", x, "float", "batch*heads", "length", "depth")
    check_heads("x: batch*heads", entries, num_heads)
    x = x.reshape(entries // num_heads, num_heads, length, depth)
    x = x.swapaxes(1, 2)  # (batch, length, heads, depth)
    return x.reshape(entries // num_heads, length, num_heads * depth)


class MultiHeadAttention(nnx.Module):
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
        rngs,
        dtype=None,
        param_dtype=jnp.float32,
    ):
        check_sizes(key_size=key_size, query_size=query_size, value_size=value_size, num_hiddens=num_hiddens)
        check_heads("num_hiddens", num_hiddens, num_heads)
        check_dropout(dropout)
        dtype = jnp.dtype(dtype or param_dtype)
        linear = partial(nnx.Linear, use_bias=bias, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.query_size, self.key_size, self.value_size = query_size, key_size, value_size
        self.num_heads = num_heads
        self.attention = attention or DotProductAttention(dropout, rngs=rngs)
        check_dtype("attention", dtype, getattr(attention, "dtype", dtype))
        self.W_q = linear(query_size, num_hiddens)
        self.W_k = linear(key_size, num_hiddens)
        self.W_v = linear(value_size, num_hiddens)
        self.W_o = linear(num_hiddens, num_hiddens)

    def __call__(self, queries, keys, values, valid_lens=None, *, need_weights=False):
        """Attends with every head and projects what the heads found, side by side.

        queries: (batch, queries, query_size). keys: (batch, keys, key_size). values: (batch,
        keys, value_size). valid_lens: None, or integers of shape (batch,) or (batch, queries).
        Returns (batch, queries, num_hiddens), with need_weights=True the pair of it and the
        weights before dropout, (batch, heads, queries, keys). Raises TypeError for a wrong
        dtype, ValueError for shapes that do not fit each other or the layer.
        """
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size, self.value_size)
        batch = queries.shape[0]
        if valid_lens is not None:
            valid_lens = jnp.repeat(valid_lens, self.num_heads, axis=0)
        output = self.attention(
            transpose_qkv(self.W_q(queries), self.num_heads),
            transpose_qkv(self.W_k(keys), self.num_heads),
            transpose_qkv(self.W_v(values), self.num_heads),
            valid_lens,
            need_weights=need_weights,
        )
        output, weights = output if need_weights else (output, None)
        output = self.W_o(transpose_output(output, self.num_heads))
        return (output, weights.reshape(batch, self.num_heads, *weights.shape[1:])) if need_weights else output
