"""Layers of PyTorch, as those of others are checked."""

import torch
from torch import nn

import torch_impl
from shared_tests.subjects._layers import OthersLayer


class TorchLayer(OthersLayer):
    """A module whose state dict is its layout; `make` and `call` are a subclass's."""

    def build(self, config):
        torch.manual_seed(0)
        layer = self.make(config).float().eval()
        for name, parameter in layer.named_parameters():
            if name.endswith("bias") and "norm" not in name.lower():
                nn.init.normal_(parameter)  # often zeros, at first, which would hide where they are
        return layer

    def make(self, config):
        raise NotImplementedError

    def call(self, layer, queries, keys, values):
        raise NotImplementedError

    def load(self, layer, arrays):
        found = layer.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, strict=False)
        missing = set(found.missing_keys) & {name for name, _ in layer.named_parameters() if self.own(name)}
        if missing or found.unexpected_keys:
            raise ValueError(f"{type(layer).__name__}: expected its own parameters, got {found}")
        return layer

    def own(self, name):
        """Whether a parameter belongs to the attention, and not to what stands beside it."""
        return True

    def state(self, layer):
        return {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}

    def forward(self, layer, queries, keys, values):
        with torch.no_grad():
            output = self.call(layer, *map(torch.tensor, (queries, keys, values)))
        return output.numpy()


class Book(TorchLayer):
    def make(self, config):
        return torch_impl.MultiHeadAttention(**config, dropout=0.0)

    def call(self, layer, queries, keys, values):
        return layer(queries, keys, values)


class Multihead(TorchLayer):
    def make(self, config):
        sizes = {"kdim": config.key_size, "vdim": config.value_size}
        return nn.MultiheadAttention(config.num_hiddens, config.num_heads, bias=config.bias, batch_first=True, **sizes)

    def call(self, layer, queries, keys, values):
        return layer(queries, keys, values)[0]


class NanoGptAttention(nn.Module):
    """nanoGPT's, with the names, the order and the arithmetic of its file, and no dropout."""

    def __init__(self, width, num_heads, bias):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        self.n_head, self.n_embd = num_heads, width

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.c_attn(x).split(self.n_embd, dim=2)
        q, k, v = (y.view(batch, length, self.n_head, width // self.n_head).transpose(1, 2) for y in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, width))


class NanoGpt(TorchLayer):
    self_attention = True
    causal = True

    def make(self, config):
        return NanoGptAttention(config.num_hiddens, config.num_heads, config.bias)

    def call(self, layer, x, *_):
        return layer(x)


class EncoderLayer(TorchLayer):
    """Its attention alone: what it adds and normalises stands beside it."""

    self_attention = True

    def make(self, config):
        return nn.TransformerEncoderLayer(
            config.num_hiddens, config.num_heads, 16, bias=config.bias, batch_first=True, dropout=0.0
        )

    def own(self, name):
        return name.startswith("self_attn")

    def call(self, layer, queries, keys, values):
        return layer.self_attn(queries, keys, values)[0]
