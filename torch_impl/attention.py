"""Scoring modules in PyTorch. Beside the shared arguments: with weights, `device` and `dtype`."""

import math
from functools import partial

import torch
from torch import nn

from torch_impl.checks import check_dropout, check_inputs, check_scores, check_sizes


def masked_softmax(scores, valid_lens=None):
    """Softmax over keys in which positions at or past the valid length get weight 0 (d2l 11.3.2.1).

    scores: (batch, queries, keys), floating. valid_lens: None, or integers of shape (batch,)
    or (batch, queries). Returns weights of the shape and dtype of scores; each row sums to 1.
    A masked score is replaced by the dtype's most negative finite number, so a row whose valid
    length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or no keys.
    """
    check_scores(scores, valid_lens)
    return _masked_softmax(scores if valid_lens is None else scores.clone(), valid_lens)


def _masked_softmax(scores, valid_lens):
    # Writes into scores. Where they are our own, copying them is a fifth of the call at length 4096.
    if valid_lens is not None:
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None]
        positions = torch.arange(scores.shape[-1], device=scores.device)
        masked = positions >= valid_lens[:, :, None]  # (batch, queries or 1, keys)
        scores.masked_fill_(masked, torch.finfo(scores.dtype).min)
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
        weights = _masked_softmax(self.score(queries, keys), valid_lens)
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
