"""Hugging Face's `BertSelfAttention` and the projection after it, with its own masks: BERT without the layer norm."""

import torch
from torch import nn
from transformers import BertConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertSelfAttention

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._torch import Torch

LAYERS = {"W_q": "attention.query", "W_k": "attention.key", "W_v": "attention.value", "W_o": "dense"}


class BertBuiltin(OfFramework):
    framework = Torch
    name = "bert_builtin"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    inputs = "self"
    square = True
    bias = "always"
    empty = False
    masks = ("none", "lengths")

    def build(self, config, weights, dtype):
        state = {f"{LAYERS[name[:3]]}.{name[4:]}": self.backend.tensor(x, dtype) for name, x in weights.items()}
        layers = []
        for kind in ("eager", "sdpa"):  # the first gives attention weights; the second is what BERT does by itself
            layer = Own(config.num_hiddens, config.num_heads, kind).to(self.backend.where, getattr(torch, dtype)).eval()
            layer.load_state_dict(state)
            layers.append(layer)
        return *layers, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        layer, _, dtype = model
        return self.backend.run(layer, queries, valid_lens, dtype=dtype, need_weights=True)

    def forward_alone(self, model, queries, keys, values, valid_lens):
        _, layer, dtype = model
        return self.backend.run(layer, queries, valid_lens, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, _, dtype = model
        x = self.backend.tensor(queries, dtype).requires_grad_()
        output = layer(x, None if valid_lens is None else self.backend.tensor(valid_lens, dtype))
        names, parameters = zip(*layer.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output, (x, *parameters), self.backend.tensor(cotangent, dtype))
        found = self._canonical(dict(zip(names, gradients[1:], strict=True)))
        return found | {"queries": self.backend.array(gradients[0])}

    def export_weights(self, model):
        return self._canonical(model[0].state_dict())

    def _canonical(self, state):
        names = [f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")]
        return {name: self.backend.array(state[f"{LAYERS[name[:3]]}.{name[4:]}"]).copy() for name in names}


class Own(nn.Module):
    """Called with lengths, as ours is."""

    def __init__(self, width, num_heads, kind):
        super().__init__()
        self.config = BertConfig(hidden_size=width, num_attention_heads=num_heads, attn_implementation=kind)
        self.attention, self.dense = BertSelfAttention(self.config), nn.Linear(width, width)

    def forward(self, x, valid_lens, need_weights=False):
        mask = None
        if valid_lens is not None:
            mask = (torch.arange(x.shape[1], device=x.device) < valid_lens[:, None]).long()
        mask = create_bidirectional_mask(self.config, x, mask)
        context, weights = self.attention(x, mask)
        return (self.dense(context), weights) if need_weights else self.dense(context)
