"""`torch.nn.MultiheadAttention`, to be timed beside `torch_impl`."""

import torch
from torch import nn

from shared_tests.subjects._torch import Torch


class TorchBuiltin:
    name = "torch_builtin"

    def __init__(self):
        self.backend = Torch()

    def make(self, width, num_heads):
        return Own(width, num_heads, self.backend.where).eval()


class Own(nn.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads, device):
        super().__init__()
        self.layer = nn.MultiheadAttention(width, num_heads, bias=False, batch_first=True, device=device)

    def forward(self, queries, keys, values, valid_lens, need_weights=False):
        padding = torch.arange(keys.shape[1], device=keys.device) >= valid_lens[:, None]
        output, weights = self.layer(
            queries, keys, values, padding, need_weights=need_weights, average_attn_weights=False
        )
        return (output, weights) if need_weights else output
