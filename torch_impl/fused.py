"""Dot-product attention in PyTorch, of inputs of any length."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from torch_impl.attention import DotProductAttention, Lengths, as_lengths, masked_softmax
from torch_impl.checks import check_fused, check_inputs


class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: about `block` scores are held at a time, and the backward pass computes
    them again.

    Args:
        dropout: the probability, in [0, 1), of dropping an attention weight in training.

    >>> attention = FusedDotProductAttention(dropout=0.0)
    >>> queries, keys, values = torch.ones(2, 1, 2), torch.ones(2, 10, 2), torch.ones(2, 10, 4)
    >>> tuple(attention(queries, keys, values, torch.tensor([2, 6])).shape)
    (2, 1, 4)
    """

    block = 2**24  # 64 MB of float32: glibc gives memory back to the system only in pieces above 32 MB

    def forward(
        self,
        queries: Float[Tensor, "batch queries head_dim"],
        keys: Float[Tensor, "batch keys head_dim"],
        values: Float[Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
    ) -> Float[Tensor, "batch queries value_size"]:
        """Averages the values as `DotProductAttention` does.

        Args:
            queries: (batch, queries, head_dim), floating.
            keys: (batch, keys, head_dim).
            values: (batch, keys, value_size).
            valid_lens: as in `masked_softmax`.
            need_weights: must be False.

        Returns:
            (batch, queries, value_size).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other, or need_weights=True.
        """
        valid_lens = as_lengths(valid_lens, queries)
        check_inputs(queries, keys, values, valid_lens)
        check_fused(need_weights)
        if not self._drops() and (valid_lens is None or valid_lens.ndim == 1):
            return self._attend(queries, keys, values, valid_lens)  # the kernel takes any length at once
        batch, num_keys = keys.shape[:2]
        if valid_lens is None:
            valid_lens = torch.full((batch,), num_keys, device=keys.device)
        if valid_lens.ndim == 1:
            valid_lens = valid_lens[:, None].expand(batch, queries.shape[1])
        rows = max(self.block // max(batch * num_keys, 1), 1)
        blocks = zip(queries.split(rows, dim=1), valid_lens.split(rows, dim=1), strict=True)
        attend = partial(checkpoint, self._attend, use_reentrant=False)
        return torch.cat([attend(queries, keys, values, valid_lens) for queries, valid_lens in blocks], dim=1)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, valid_lens: Tensor | None) -> Tensor:
        """The average for a block of queries of every batch entry."""
        if self._drops():  # the kernel with dropout would hold the attention weights
            return self.dropout(masked_softmax(self.score(queries, keys), valid_lens)) @ values
        attend = None
        if valid_lens is not None:
            valid_lens = valid_lens[:, None, None] if valid_lens.ndim == 1 else valid_lens[:, :, None]
            # A row without a valid key: scores of 0 for all keys make it uniform, and without gradient.
            queries = queries * (valid_lens > 0)
            positions = torch.arange(keys.shape[1], device=keys.device)
            attend = (positions < torch.where(valid_lens > 0, valid_lens, keys.shape[1]))[:, None]
        # The kernel takes inputs of four dimensions, and has no second derivative. Tools replace the function at run
        # time, so it is looked up when it is called.
        attention = functional.scaled_dot_product_attention
        return attention(queries[:, None], keys[:, None], values[:, None], attend)[:, 0]

    def _drops(self) -> bool:
        return self.training and self.dropout.p > 0
