"""Scoring modules in PyTorch. Beside the shared arguments: with parameters, `device` and `dtype`."""

import math
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.autograd import forward_ad

from torch_impl.checks import check_dropout, check_inputs, check_scores, check_sizes

Lengths: TypeAlias = Integer[Tensor | np.ndarray, "batch"] | Integer[Tensor | np.ndarray, "batch queries"]
"""How many keys, from the first, each batch entry or each query attends to."""


def masked_softmax(
    scores: Float[Tensor, "batch queries keys"], valid_lens: Lengths | None = None, *, out: Tensor | None = None
) -> Float[Tensor, "batch queries keys"]:
    """Softmax over the keys that a query attends to, which are those before its valid length (d2l 11.3.2.1).

    The other scores are replaced by the dtype's most negative finite number, so their attention weight is 0. A row
    whose valid length is 0 or less is uniform over all its keys; a length beyond the keys masks nothing.

    Args:
        scores: (batch, queries, keys), floating.
        valid_lens: integers, (batch,) or (batch, queries); None masks nothing.
        out: where to write the weights, if no gradient is wanted; float32 or float64, and `scores` itself if you like.

    Returns:
        Attention weights, of the shape and dtype of `scores`. Each row sums to 1.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape, or no keys.

    >>> masked_softmax(torch.zeros(1, 1, 4), torch.tensor([2])).tolist()
    [[[0.5, 0.5, 0.0, 0.0]]]
    """
    valid_lens = as_lengths(valid_lens, scores)
    check_scores(scores, valid_lens)
    if valid_lens is not None:
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None]
        positions = torch.arange(scores.shape[-1], device=scores.device)
        attend = positions < valid_lens[:, :, None]  # (batch, queries or 1, keys)
        lowest = scores.new_full((), torch.finfo(scores.dtype).min)
        scores = torch.where(attend, scores, lowest, out=out)
    wide = torch.promote_types(scores.dtype, torch.float32)  # half precision would lose the sum
    return torch.softmax(scores, dim=-1, dtype=wide, out=out).to(scores.dtype)


def as_lengths(valid_lens: Lengths | None, beside: Tensor) -> Tensor | None:
    """A NumPy array of lengths as a tensor beside another; what is none stays as it is."""
    return torch.as_tensor(valid_lens, device=beside.device) if isinstance(valid_lens, np.ndarray) else valid_lens


def _are_plain(scores: Tensor, valid_lens: Tensor | None) -> bool:
    """Whether both hold numbers alone: no compiler traces them, no transform wraps them, and there is no tangent."""
    if torch.compiler.is_compiling() or torch.func.debug_unwrap(scores, recurse=False) is not scores:
        return False
    if valid_lens is not None and torch.func.debug_unwrap(valid_lens, recurse=False) is not valid_lens:
        return False
    return forward_ad.unpack_dual(scores).tangent is None


def _takes_softmax(scores: Tensor) -> bool:
    """Whether a softmax of scores can be written over them: half precision needs a wider array, a gradient both."""
    return type(scores) is Tensor and scores.dtype in (torch.float32, torch.float64) and not scores.requires_grad


class ScoredAttention(nn.Module):
    """What the scoring modules share: scores, masked softmax, dropout, average of the values.

    A subclass gives `score(queries, keys) -> (batch, queries, keys)`.
    """

    query_size: int | None = None
    key_size: int | None = None

    def __init__(self, dropout: float) -> None:
        check_dropout(dropout)
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.attention_weights: Tensor | None = None

    def forward(
        self,
        queries: Float[Tensor, "batch queries query_size"],
        keys: Float[Tensor, "batch keys key_size"],
        values: Float[Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
    ) -> (
        Float[Tensor, "batch queries value_size"]
        | tuple[Float[Tensor, "batch queries value_size"], Float[Tensor, "batch queries keys"]]
    ):
        """Averages the values, each weighted by how its key scores against the query.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: whether to return the attention weights, too.

        Returns:
            (batch, queries, value_size); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other.
        """
        valid_lens = as_lengths(valid_lens, queries)
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size)
        scores = self.score(queries, keys)
        plain = _are_plain(scores, valid_lens)
        # This product is in nobody else's hands; what a subclass returns may be. Fresh memory would cost more than the
        # softmax (docs/adr/0008).
        own = plain and getattr(self.score, "__func__", None) is DotProductAttention.score
        weights = masked_softmax(scores, valid_lens, out=scores if own and _takes_softmax(scores) else None)
        if plain:
            self.attention_weights = weights.detach()
        output = self.dropout(weights) @ values
        return (output, weights) if need_weights else output

    def score(
        self, queries: Float[Tensor, "batch queries query_size"], keys: Float[Tensor, "batch keys key_size"]
    ) -> Float[Tensor, "batch queries keys"]:
        """Says how well each key fits each query: what a subclass gives."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method score(queries, keys)")


class DotProductAttention(ScoredAttention):
    """Scaled dot-product attention (d2l 11.3.3; Vaswani et al. 2017, section 3.2.1).

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = DotProductAttention(dropout=0.5).eval()
    >>> queries, keys, values = torch.ones(2, 1, 2), torch.ones(2, 10, 2), torch.ones(2, 10, 4)
    >>> tuple(attention(queries, keys, values, torch.tensor([2, 6])).shape)
    (2, 1, 4)
    """

    def score(
        self, queries: Float[Tensor, "batch queries head_dim"], keys: Float[Tensor, "batch keys head_dim"]
    ) -> Float[Tensor, "batch queries keys"]:
        """Returns queries . keys / sqrt(head_dim)."""
        return queries / math.sqrt(queries.shape[-1]) @ keys.mT


class AdditiveAttention(ScoredAttention):
    """Additive attention (d2l 11.3.4; Bahdanau et al. 2015): the score is w_v . tanh(W_q query + W_k key).

    Args:
        key_size: the width of the keys.
        query_size: the width of the queries.
        num_hiddens: the width of the hidden layer.
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    Raises:
        TypeError: for a size that is no integer, or a dropout that is no number.
        ValueError: for a size below 1, or a dropout outside [0, 1).

    >>> attention = AdditiveAttention(key_size=2, query_size=20, num_hiddens=8, dropout=0.1).eval()
    >>> queries, keys, values = torch.ones(2, 1, 20), torch.ones(2, 10, 2), torch.ones(2, 10, 4)
    >>> tuple(attention(queries, keys, values, torch.tensor([2, 6])).shape)
    (2, 1, 4)
    """

    def __init__(
        self,
        key_size: int,
        query_size: int,
        num_hiddens: int,
        dropout: float,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes(key_size=key_size, query_size=query_size, num_hiddens=num_hiddens)
        super().__init__(dropout)
        self.key_size, self.query_size, self.num_hiddens = key_size, query_size, num_hiddens
        linear = partial(nn.Linear, bias=False, device=device, dtype=dtype)
        self.W_k = linear(key_size, num_hiddens)
        self.W_q = linear(query_size, num_hiddens)
        self.w_v = linear(num_hiddens, 1)

    def score(
        self, queries: Float[Tensor, "batch queries query_size"], keys: Float[Tensor, "batch keys key_size"]
    ) -> Float[Tensor, "batch queries keys"]:
        """Returns w_v . tanh(W_q query + W_k key)."""
        queries, keys = self.W_q(queries)[:, :, None], self.W_k(keys)[:, None]
        return self.w_v(torch.tanh(queries + keys)).squeeze(-1)

    def extra_repr(self) -> str:
        return f"key_size={self.key_size}, query_size={self.query_size}, num_hiddens={self.num_hiddens}"
