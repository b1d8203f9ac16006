"""A wrong port, in PyTorch: `trihead verify --subject docs/ports/wrong_port.py:WrongPort`.

It has two mistakes that people make: lengths are tiled over the heads, where each should be repeated; and it claims
that a query that may attend to no key gets zeros, though a finite fill makes the attention weights uniform there.
"""

import torch
from torch.nn import functional


class WrongPort:
    masks = ("none", "lengths")
    empty = False
    rows_without_key = "zeros"

    def build(self, config, weights, dtype):
        return config.num_heads, {name: torch.tensor(x) for name, x in weights.items()}

    def forward(self, model, queries, keys, values, valid_lens):
        heads, w = model

        def project(x, name):
            return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

        def split(x):  # (batch, length, hidden) -> (batch * heads, length, head_dim)
            return x.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)

        inputs = zip(("W_q", "W_k", "W_v"), map(torch.tensor, (queries, keys, values)), strict=True)
        q, k, v = (split(project(x, name)) for name, x in inputs)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if valid_lens is not None:
            lengths = torch.tensor(valid_lens).repeat(heads)  # wrong: repeat_interleave
            masked = torch.arange(k.shape[1]) >= lengths[:, None, None]
            scores = scores.masked_fill(masked, torch.finfo(scores.dtype).min)  # so no zeros where no key is valid
        weights = scores.softmax(-1)
        context = (weights @ v).unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
        return project(context, "W_o").numpy(), weights.unflatten(0, (-1, heads)).numpy()
