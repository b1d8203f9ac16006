"""Multi-head attention of "Dive into Deep Learning" (section 11.5), in TensorFlow (keras 3)."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"tf_impl: expected the keras backend 'tensorflow', got '{keras.backend.backend()}'")

from tf_impl.attention import AdditiveAttention, DotProductAttention, masked_softmax
from tf_impl.fused import FusedDotProductAttention
from tf_impl.heads import head_importance, prune_heads
from tf_impl.multihead import MultiHeadAttention, transpose_output, transpose_qkv
from tf_impl.parallel import shard
from tf_impl.weights import export_weights, load_weights

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
