"""A right port, in Equinox: `trihead verify --subject docs/ports/equinox_port.py:EquinoxPort`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


class Attention(eqx.Module):
    """Multi-head attention of one entry, as one writes it in Equinox; `jax.vmap` makes it take a batch."""

    W_q: eqx.nn.Linear
    W_k: eqx.nn.Linear
    W_v: eqx.nn.Linear
    W_o: eqx.nn.Linear
    num_heads: int = eqx.field(static=True)

    def __init__(self, key_size, query_size, value_size, num_hiddens, num_heads, bias=False, *, key):
        sizes, keys = (query_size, key_size, value_size, num_hiddens), jax.random.split(key, 4)
        layers = [eqx.nn.Linear(size, num_hiddens, use_bias=bias, key=k) for size, k in zip(sizes, keys, strict=True)]
        self.W_q, self.W_k, self.W_v, self.W_o = layers
        self.num_heads = num_heads

    def __call__(self, queries, keys, values, valid_lens):
        def split(x):  # (length, hidden) -> (length, heads, head_dim)
            return x.reshape(len(x), self.num_heads, -1)

        q, k, v = split(jax.vmap(self.W_q)(queries)), split(jax.vmap(self.W_k)(keys)), split(jax.vmap(self.W_v)(values))
        scores = jnp.einsum("qhd,khd->hqk", q, k) / jnp.sqrt(q.shape[-1])
        attend = jnp.arange(len(keys)) < valid_lens[:, None]
        weights = jax.nn.softmax(jnp.where(attend, scores, jnp.finfo(scores.dtype).min))
        context = jnp.einsum("hqk,khd->qhd", weights, v)
        return jax.vmap(self.W_o)(context.reshape(len(queries), -1)), weights


class EquinoxPort:
    dtypes = ("float32",)  # what JAX computes in, unless it is told
    empty = False

    def build(self, config, weights, dtype):
        layer = Attention(**config, key=jax.random.key(0))
        return eqx.tree_at(lambda layer: [parameter(layer, name) for name in weights], layer, list(weights.values()))

    def forward(self, model, queries, keys, values, valid_lens):
        return tuple(map(np.asarray, attend(model, queries, keys, values, per_query(queries, keys, valid_lens))))

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        def output(*arguments):
            return attend(*arguments, per_query(queries, keys, valid_lens))[0]

        layer, *inputs = eqx.filter_vjp(output, model, queries, keys, values)[1](jnp.asarray(cotangent))
        names = [f"{name}.{kind}" for name in ("W_q", "W_k", "W_v", "W_o") for kind in ("weight", "bias")]
        found = dict(zip(("queries", "keys", "values"), inputs, strict=True))
        found |= {name: parameter(layer, name) for name in names}
        return {name: gradient for name, gradient in found.items() if gradient is not None}  # None: there is no bias


@eqx.filter_jit
def attend(layer, queries, keys, values, lengths):
    return jax.vmap(layer)(queries, keys, values, lengths)


def parameter(layer, name):
    return getattr(getattr(layer, name[:3]), name[4:])


def per_query(queries, keys, valid_lens):  # None, (batch,) or (batch, queries) -> (batch, queries)
    lengths = keys.shape[1] if valid_lens is None else valid_lens.reshape(len(queries), -1)
    return np.broadcast_to(lengths, queries.shape[:2])
