"""`torch.nn.MultiheadAttention`, judged as it stands and timed beside `torch_impl`.

Queries are as wide as the output; keys and values are too, unless it is told, which is left aside here.
"""

import torch
from torch import nn

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._torch import Torch


class TorchBuiltin(OfFramework):
    framework = Torch
    name = "torch_builtin"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    square = True
    rows_without_key = "nan"  # zeros where no attention weights are asked for

    def make(self, width, num_heads):
        return Own(width, num_heads, self.backend.where).eval()

    def build(self, config, weights, dtype):
        kind = {"bias": config.bias, "dtype": getattr(torch, dtype)}
        own = Own(config.num_hiddens, config.num_heads, self.backend.where, **kind).eval()
        w = {name: self.backend.tensor(array, dtype) for name, array in weights.items()}
        state = {"in_proj_weight": torch.cat([w[f"W_{x}.weight"] for x in "qkv"]), "out_proj.weight": w["W_o.weight"]}
        if config.bias:
            state |= {"in_proj_bias": torch.cat([w[f"W_{x}.bias"] for x in "qkv"]), "out_proj.bias": w["W_o.bias"]}
        own.layer.load_state_dict(state)
        return own, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype, need_weights=True)

    def forward_alone(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        inputs = [self.backend.tensor(x, dtype).requires_grad_() for x in (queries, keys, values)]
        lengths = None if valid_lens is None else self.backend.tensor(valid_lens, dtype)
        output, _ = layer(*inputs, lengths, need_weights=True)
        names, parameters = zip(*layer.layer.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output, (*inputs, *parameters), self.backend.tensor(cotangent, dtype))
        found = dict(zip(("queries", "keys", "values"), map(self.backend.array, gradients[:3]), strict=True))
        return found | self._canonical(dict(zip(names, gradients[3:], strict=True)))

    def export_weights(self, model):
        return self._canonical(model[0].layer.state_dict())

    def _canonical(self, state):
        found = {}
        for name, tensor in state.items():
            kind = name.rpartition("_" if name.startswith("in") else ".")[2]
            parts = zip("qkv", tensor.chunk(3), strict=True) if name.startswith("in") else [("o", tensor)]
            found |= {f"W_{x}.{kind}": self.backend.array(part).copy() for x, part in parts}
        return found


class Own(nn.Module):
    """Called as ours is."""

    def __init__(self, width, num_heads, device, bias=False, dtype=None):
        super().__init__()
        self.layer = nn.MultiheadAttention(width, num_heads, bias=bias, batch_first=True, device=device, dtype=dtype)

    def forward(self, queries, keys, values, valid_lens, need_weights=False):
        padding = mask = None
        if valid_lens is not None:
            masked = torch.arange(keys.shape[1], device=keys.device) >= valid_lens[..., None]
            if valid_lens.ndim == 1:
                padding = masked
            else:
                mask = masked.repeat_interleave(self.layer.num_heads, dim=0)
        output, weights = self.layer(
            queries, keys, values, padding, need_weights, attn_mask=mask, average_attn_weights=False
        )
        return (output, weights) if need_weights else output
