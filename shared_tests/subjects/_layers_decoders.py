"""Decoders of Hugging Face's transformers, with what our function has not got switched off."""

import torch
from transformers import (
    BloomConfig,
    CodeGenConfig,
    FalconConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Phi3Config,
)
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.models.codegen.modeling_codegen import CodeGenAttention
from transformers.models.falcon.modeling_falcon import FalconAttention
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.gpt_bigcode.modeling_gpt_bigcode import GPTBigCodeAttention
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.phi3.modeling_phi3 import Phi3Attention

from shared_tests.subjects._layers_transformers import EAGER, HuggingFace


def later(x):
    """(1, 1, length, length): minus infinity, nearly, where a key is after a query."""
    fill = torch.full((x.shape[1], x.shape[1]), torch.finfo(x.dtype).min)
    return fill.triu(1)[None, None]


def still(x, head_dim):
    """Rotary positions that turn nothing: cosines 1 and sines 0."""
    shape = (x.shape[0], x.shape[1], head_dim)
    return torch.ones(shape), torch.zeros(shape)


class Gpt2(HuggingFace):
    causal = True

    def make(self, config):
        return GPT2Attention(
            GPT2Config(n_embd=config.num_hiddens, n_head=config.num_heads, n_positions=16, **EAGER), layer_idx=0
        )

    def call(self, layer, x, *_):
        return layer(x, attention_mask=later(x))[0]


class Gpt2Cross(HuggingFace):
    self_attention = False
    keys_are_values = True

    def make(self, config):
        sizes = GPT2Config(n_embd=config.num_hiddens, n_head=config.num_heads, n_positions=16, **EAGER)
        return GPT2Attention(sizes, is_cross_attention=True, layer_idx=0)

    def call(self, layer, queries, keys, _):
        return layer(queries, encoder_hidden_states=keys)[0]


class BigCode(HuggingFace):
    causal = True
    multi_query = False

    def make(self, config):
        sizes = {"n_embd": config.num_hiddens, "n_head": config.num_heads, "n_positions": 16}
        return GPTBigCodeAttention(GPTBigCodeConfig(**sizes, multi_query=self.multi_query, **EAGER), layer_idx=0)

    def call(self, layer, x, *_):
        return layer(x, attention_mask=later(x))[0]


class BigCodeMultiQuery(BigCode):
    multi_query = True


class NeoX(HuggingFace):
    without = "rotary positions"

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads}
        return GPTNeoXAttention(GPTNeoXConfig(**sizes, attention_bias=config.bias, **EAGER), layer_idx=0)

    def call(self, layer, x, *_):
        return layer(x, None, position_embeddings=still(x, layer.head_size))[0]


class Bloom(HuggingFace):
    without = "ALiBi"

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "n_head": config.num_heads}
        return BloomAttention(BloomConfig(**sizes, hidden_dropout=0.0, attention_dropout=0.0), layer_idx=0)

    def call(self, layer, x, *_):
        alibi = torch.zeros(x.shape[0] * layer.num_heads, 1, x.shape[1])
        return layer(x, torch.zeros_like(x), alibi, torch.zeros(1, 1, x.shape[1], x.shape[1]))[0]


class Falcon(HuggingFace):
    """The new kind, in which groups of heads share keys and values."""

    without = "rotary positions"
    groups = 2

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads}
        kind = {"new_decoder_architecture": True, "num_kv_heads": self.groups, "bias": config.bias, "alibi": False}
        return FalconAttention(FalconConfig(**sizes, **kind, **EAGER), layer_idx=0)

    def call(self, layer, x, *_):
        mask = torch.zeros(1, 1, x.shape[1], x.shape[1])
        return layer(x, None, mask, position_embeddings=still(x, layer.head_dim))[0]


class CodeGen(HuggingFace):
    without = "rotary positions"

    def make(self, config):
        sizes = {"n_embd": config.num_hiddens, "n_head": config.num_heads, "rotary_dim": config.head_dim}
        return CodeGenAttention(CodeGenConfig(**sizes), layer_idx=0)

    def call(self, layer, x, *_):
        cosines, sines = still(x, layer.rotary_dim // 2)
        return layer(x, (sines, cosines))[0]


class Llama(HuggingFace):
    without = "rotary positions"
    groups = 0
    """How many key heads there are; 0: as many as heads."""

    def make(self, config):
        sizes = {
            "hidden_size": config.num_hiddens,
            "num_attention_heads": config.num_heads,
            "head_dim": config.head_dim,
        }
        groups = self.groups or config.num_heads
        return LlamaAttention(
            LlamaConfig(**sizes, num_key_value_heads=groups, attention_bias=config.bias, **EAGER), layer_idx=0
        )

    def call(self, layer, x, *_):
        return layer(x, position_embeddings=still(x, layer.head_dim))[0]


class LlamaGrouped(Llama):
    groups = 2


class Phi3(HuggingFace):
    without = "rotary positions"
    groups = 0

    def make(self, config):
        sizes = {"hidden_size": config.num_hiddens, "num_attention_heads": config.num_heads, "pad_token_id": 0}
        kind = {"num_key_value_heads": self.groups or config.num_heads, "head_dim": config.head_dim}
        return Phi3Attention(Phi3Config(**sizes, **kind, **EAGER), layer_idx=0)

    def call(self, layer, x, *_):
        return layer(x, still(x, layer.head_dim), None)[0]


class Phi3Grouped(Phi3):
    groups = 2
