"""Scoring modules in PyTorch. Beside the shared arguments: with weights, `device` and `dtype`."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from torch_impl.checks import check_dropout, check_fused, check_inputs, check_scores, check_sizes


def masked_softmax(scores, valid_lens=None):
    """Softmax over keys in which positions at or past the valid length get weight 0 (d2l 11.3.2.1).

    scores: (batch, queries, keys), floating. valid_lens: None, or integers of shape (batch,)
    or (batch, queries). Returns weights of the shape and dtype of scores; each row sums to 1.
    A masked score is replaced by the dtype's most negative finite number, so a row whose valid
    length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or no keys.
    """
    check_scores(scores, valid_lens)
    if valid_lens is not None:
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None]
        positions = torch.arange(scores.shape[-1], device=scores.device)
        attend = positions < valid_lens[:, :, None]  # (batch, queries or 1, keys)
        scores = torch.where(attend, scores, torch.finfo(scores.dtype).min)
    wide = torch.promote_types(scores.dtype, torch.float32)  # sums are not left to half precision
    return torch.softmax(scores, dim=-1, dtype=wide).to(scores.dtype)


class ScoredAttention(nn.Module):
    """What the scoring modules share: scores, masked softmax, dropout, average of the values.

    A subclass gives `score(queries, keys) -> (batch, queries, keys)`.
    """

    query_size = key_size = None

    def __init__(self, dropout):
        check_dropout(dropout)
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.attention_weights = None

    def forward(self, queries, keys, values, valid_lens=None, *, need_weights=False):
        """Averages the values, each weighted by how its key scores against the query.

        queries: (batch, queries, query_size). keys: (batch, keys, key_size). values: (batch,
        keys, width). valid_lens: as in `masked_softmax`. Returns (batch, queries, width), with
        need_weights=True the pair of it and the weights before dropout, (batch, queries, keys).
        Raises TypeError for a wrong dtype, ValueError for shapes that do not fit each other.
        """
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size)
        weights = masked_softmax(self.score(queries, keys), valid_lens)
        if not torch.compiler.is_compiling():  # an attribute would leak a tracer
            self.attention_weights = weights.detach()
        output = self.dropout(weights) @ values
        return (output, weights) if need_weights else output


class DotProductAttention(ScoredAttention):
    """Scaled dot-product attention (d2l 11.3.3; Vaswani et al. 2017, section 3.2.1).

    dropout: probability in [0, 1) of dropping an attention weight in training. The queries and
    the keys have one width.
    """

    def score(self, queries, keys):
        """Returns queries . keys / sqrt(width), (batch, queries, keys)."""
        return queries / math.sqrt(queries.shape[-1]) @ keys.mT


class AdditiveAttention(ScoredAttention):
    """Additive attention (d2l 11.3.4; Bahdanau et al. 2015): w_v . tanh(W_q query + W_k key).

    key_size, query_size: the widths of keys and queries. num_hiddens: the width of the hidden
    layer. dropout: probability in [0, 1) of dropping an attention weight in training.
    """

    def __init__(self, key_size, query_size, num_hiddens, dropout, *, device=None, dtype=None):
        check_sizes(key_size=key_size, query_size=query_size, num_hiddens=num_hiddens)
        super().__init__(dropout)
        self.key_size, self.query_size = key_size, query_size
        linear = partial(nn.Linear, bias=False, device=device, dtype=dtype)
        self.W_k = linear(key_size, num_hiddens)
        self.W_q = linear(query_size, num_hiddens)
        self.w_v = linear(num_hiddens, 1)

    def score(self, queries, keys):
        """Returns w_v . tanh(W_q query + W_k key), (batch, queries, keys)."""
        queries, keys = self.W_q(queries)[:, :, None], self.W_k(keys)[:, None]
        return self.w_v(torch.tanh(queries + keys)).squeeze(-1)


class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: some `block` scores are held at a time, and the
    backward pass computes them anew. dropout: probability in [0, 1) of dropping an attention
    weight in training.
    """

    block = 2**21  # 8 MB of float32: in the cache still, and long enough for products to be fast

    def forward(self, queries, keys, values, valid_lens=None, *, need_weights=False):
        """Averages the values as `DotProductAttention` does: arguments, result and errors are as there.

        Raises ValueError also for need_weights=True.
        """
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        if not self._drops() and (valid_lens is None or valid_lens.ndim == 1):
            return self._attend(queries, keys, values, valid_lens)  # the kernel takes any length at once
        entries, num_keys = keys.shape[:2]
        if valid_lens is None:
            valid_lens = torch.full((entries,), num_keys, device=keys.device)
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None].expand(entries, queries.shape[1])
        rows = max(self.block // max(entries * num_keys, 1), 1)
        blocks = zip(queries.split(rows, dim=1), valid_lens.split(rows, dim=1), strict=True)
        attend = partial(checkpoint, self._attend, use_reentrant=False)
        return torch.cat([attend(queries, keys, values, valid_lens) for queries, valid_lens in blocks], dim=1)

    def _attend(self, queries, keys, values, valid_lens):
        """The average for a block of queries of every entry."""
        if self._drops():  # the kernel's own dropout would hold the weights
            return self.dropout(masked_softmax(self.score(queries, keys), valid_lens)) @ values
        attend = None
        if valid_lens is not None:
            valid_lens = valid_lens[:, None, None] if valid_lens.ndim == 1 else valid_lens[:, :, None]
            queries = queries * (valid_lens > 0)  # scores of 0 alike: uniform over all keys, and no gradient
            positions = torch.arange(keys.shape[1], device=keys.device)
            attend = (positions < torch.where(valid_lens > 0, valid_lens, keys.shape[1]))[:, None]
        # Four dimensions, or it is not the kernel that runs.
        return scaled_dot_product_attention(queries[:, None], keys[:, None], values[:, None], attend)[:, 0]

    def _drops(self):
        return self.training and self.dropout.p > 0
