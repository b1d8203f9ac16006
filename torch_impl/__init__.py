"""Multi-head attention of "Dive into Deep Learning" (section 11.5), in PyTorch."""

from torch_impl.attention import AdditiveAttention, DotProductAttention, masked_softmax
from torch_impl.fused import FusedDotProductAttention
from torch_impl.heads import head_importance, prune_heads
from torch_impl.multihead import MultiHeadAttention, transpose_output, transpose_qkv
from torch_impl.parallel import shard
from torch_impl.weights import export_weights, load_weights

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
