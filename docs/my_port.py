"""The smallest port that can be judged: `trihead verify --subject docs/my_port.py:MyPort`."""

import numpy as np


class MyPort:
    def build(self, config, weights, dtype):
        return config.num_heads, weights

    def forward(self, model, queries, keys, values, valid_lens):
        heads, weights = model

        def project(x, name):
            product = x @ weights[f"{name}.weight"].T
            return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product

        def split(x):  # (batch, length, hidden) -> (batch, heads, length, head_dim)
            batch, length, hidden = x.shape
            return x.reshape(batch, length, heads, hidden // heads).swapaxes(1, 2)

        q, k, v = (split(project(x, name)) for x, name in ((queries, "W_q"), (keys, "W_k"), (values, "W_v")))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1], dtype=q.dtype)
        if valid_lens is not None:
            per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
            masked = np.arange(k.shape[2]) >= per_query[:, None, :, None]  # (batch, 1, queries, keys)
            scores = np.where(masked, np.finfo(q.dtype).min, scores)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention = powers / powers.sum(axis=-1, keepdims=True)
        context = attention @ v
        joined = context.swapaxes(1, 2).reshape(*queries.shape[:2], heads * v.shape[-1])
        return project(joined, "W_o"), attention
