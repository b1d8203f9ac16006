"""Attention layers of timm."""

from timm.models.beit import Attention as BeitAttention
from timm.models.vision_transformer import Attention

from shared_tests.subjects._layers_torch import TorchLayer


class ViT(TorchLayer):
    self_attention = True

    def make(self, config):
        return Attention(config.num_hiddens, config.num_heads, qkv_bias=config.bias)

    def call(self, layer, x, *_):
        return layer(x)


class Beit(TorchLayer):
    """Made without a window, and so without a table of relative positions."""

    self_attention = True
    without = "relative positions"

    def make(self, config):
        return BeitAttention(config.num_hiddens, config.num_heads, qkv_bias=True)

    def call(self, layer, x, *_):
        return layer(x)
