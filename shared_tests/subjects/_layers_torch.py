"""Layers of PyTorch, as those of others are checked."""

import torch
from torch import nn

import torch_impl
from shared_tests.subjects._layers import OthersLayer


class TorchLayer(OthersLayer):
    """A module whose state dict is its layout; `make` and `call` are a subclass's."""

    def build(self, config):
        torch.manual_seed(0)
        return self.make(config).float().eval()

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
        layer = nn.MultiheadAttention(config.num_hiddens, config.num_heads, bias=config.bias, batch_first=True, **sizes)
        for name, parameter in layer.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)  # zeros, at first, which would hide a wrong third
        return layer

    def call(self, layer, queries, keys, values):
        return layer(queries, keys, values)[0]


class EncoderLayer(TorchLayer):
    """Its attention alone: what it adds and normalises stands beside it."""

    self_attention = True

    def make(self, config):
        layer = nn.TransformerEncoderLayer(
            config.num_hiddens, config.num_heads, 16, bias=config.bias, batch_first=True, dropout=0.0
        )
        for name, parameter in layer.self_attn.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
        return layer

    def own(self, name):
        return name.startswith("self_attn")

    def call(self, layer, queries, keys, values):
        return layer.self_attn(queries, keys, values)[0]
