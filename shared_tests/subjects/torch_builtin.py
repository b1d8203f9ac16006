"""`torch.nn.MultiheadAttention`, to be timed beside `torch_impl`."""

import torch
from torch import nn

from shared_tests.subjects.torch_impl import TorchImpl


class TorchBuiltin(TorchImpl):
    name = "torch_builtin"
    judged = False

    def make(self, name, *, query_size, num_hiddens, num_heads, bias, dropout, **sizes):
        return Own(query_size, num_heads, bias).eval()


class Own(nn.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads, bias):
        super().__init__()
        self.layer = nn.MultiheadAttention(width, num_heads, bias=bias, batch_first=True)

    def forward(self, queries, keys, values, valid_lens, need_weights=False):
        padding = torch.arange(keys.shape[1]) >= valid_lens[:, None]
        output, weights = self.layer(
            queries, keys, values, padding, need_weights=need_weights, average_attn_weights=False
        )
        return (output, weights) if need_weights else output
