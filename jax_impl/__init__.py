"""Multi-head attention of "Dive into Deep Learning" (section 11.5), in JAX (flax nnx)."""

from jax_impl.attention import AdditiveAttention, DotProductAttention, masked_softmax
from jax_impl.fused import FusedDotProductAttention
from jax_impl.heads import head_importance, prune_heads
from jax_impl.multihead import MultiHeadAttention, transpose_output, transpose_qkv
from jax_impl.parallel import shard
from jax_impl.weights import export_weights, load_weights

__all__ = [
    "AdditiveAttention",
    "DotProductAttention",
    "FusedDotProductAttention",
    "MultiHeadAttention",
    "export_weights",
    "head_importance",
    "load_weights",
    "masked_softmax",
    "prune_heads",
    "shard",
    "transpose_output",
    "transpose_qkv",
]
