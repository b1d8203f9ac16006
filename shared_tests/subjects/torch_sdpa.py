"""`torch.nn.functional.scaled_dot_product_attention` between four projections, which gives no attention weights."""

import torch
from torch.nn import functional

from shared_tests.harness.implementation import OfFramework
from shared_tests.subjects._torch import Torch


class TorchSdpa(OfFramework):
    framework = Torch
    name = "torch_sdpa"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    pruned = True
    attention_weights = "none"
    rows_without_key = "zeros"

    def build(self, config, weights, dtype):
        return {name: self.backend.tensor(x, dtype) for name, x in weights.items()}, config.num_heads, dtype

    def forward(self, model, queries, keys, values, valid_lens):
        weights, heads, dtype = model
        return self.backend.run(attend, weights, heads, queries, keys, values, valid_lens, dtype=dtype)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        weights, heads, dtype = model
        inputs = {"queries": queries, "keys": keys, "values": values}
        inputs = {name: self.backend.tensor(x, dtype).requires_grad_() for name, x in inputs.items()}
        weights = {name: x.detach().requires_grad_() for name, x in weights.items()}
        lengths = None if valid_lens is None else self.backend.tensor(valid_lens, dtype)
        output, sources = attend(weights, heads, *inputs.values(), lengths), inputs | weights
        gradients = torch.autograd.grad(output, list(sources.values()), self.backend.tensor(cotangent, dtype))
        return {name: self.backend.array(x) for name, x in zip(sources, gradients, strict=True)}


def attend(weights, heads, queries, keys, values, valid_lens):
    def project(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    q, k, v = (
        project(x, n).unflatten(-1, (heads, -1)).transpose(1, 2)
        for x, n in zip((queries, keys, values), ("W_q", "W_k", "W_v"), strict=True)
    )
    mask = None
    if valid_lens is not None:
        per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
        mask = (torch.arange(k.shape[2], device=k.device) < per_query[..., None])[:, None]
    context = functional.scaled_dot_product_attention(q, k, v, mask)
    return project(context.transpose(1, 2).flatten(2), "W_o")
