"""Encoders of Hugging Face's transformers, with what our function has not got switched off."""

import math

from transformers import BertConfig, DistilBertConfig, OPTConfig, T5Config, ViTConfig
from transformers.models.bert.modeling_bert import BertAttention
from transformers.models.distilbert.modeling_distilbert import DistilBertSelfAttention
from transformers.models.opt.modeling_opt import OPTAttention
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vit.modeling_vit import ViTAttention

from shared_tests.subjects._layers_torch import TorchLayer

EAGER = {"attn_implementation": "eager"}


class HuggingFace(TorchLayer):
    self_attention = True


class Bert(HuggingFace):
    """Without the residual and the normalisation after it."""

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads}
        return BertAttention(BertConfig(**sizes, **EAGER))

    def own(self, name):
        return "LayerNorm" not in name

    def call(self, layer, x, *_):
        return layer.output.dense(layer.self(x)[0])


class DistilBert(HuggingFace):
    def make(self, config):
        return DistilBertSelfAttention(DistilBertConfig(dim=config.num_hiddens, n_heads=config.num_heads, **EAGER))

    def call(self, layer, x, *_):
        return layer(x)[0]


class ViT(HuggingFace):
    """Stored by other names than it has in memory: transformers renames them when it saves and loads a model."""

    NAMES = (
        ("q_proj", "attention.query"),
        ("k_proj", "attention.key"),
        ("v_proj", "attention.value"),
        ("o_proj", "output.dense"),
    )

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads}
        return ViTAttention(ViTConfig(**sizes, qkv_bias=config.bias, **EAGER))

    def state(self, layer):
        state = super().state(layer)
        return {f"{disk}.{kind}": state[f"{name}.{kind}"] for name, disk in self.NAMES for kind in ("weight", "bias")}

    def load(self, layer, arrays):
        for name, disk in self.NAMES:
            arrays = {one.replace(disk, name): array for one, array in arrays.items()}
        return super().load(layer, arrays)

    def call(self, layer, x, *_):
        return layer(x)[0]


class Opt(HuggingFace):
    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads}
        return OPTAttention(
            OPTConfig(**sizes, enable_bias=config.bias, word_embed_proj_dim=config.num_hiddens, **EAGER), layer_idx=0
        )

    def call(self, layer, x, *_):
        return layer(x)[0]


class T5(HuggingFace):
    without = "relative positions"
    scaled = False

    def make(self, config):
        sizes = {"d_model": config.num_hiddens, "num_heads": config.num_heads, "d_kv": config.head_dim}
        return T5Attention(T5Config(**sizes, dropout_rate=0.0), layer_idx=0)

    def call(self, layer, x, *_):
        assert math.sqrt(layer.key_value_proj_dim) % 1 == 0
        return layer(x)[0]
