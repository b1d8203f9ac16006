"""Dot-product attention in PyTorch, of inputs of any length."""

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from torch_impl.attention import DotProductAttention, masked_softmax
from torch_impl.checks import check_fused, check_inputs


class FusedDotProductAttention(DotProductAttention):
    """`DotProductAttention` that never holds the (queries, keys) matrix, forward or backward (Dao et al. 2022).

    Memory grows linearly with the length: some `block` scores are held at a time, and the
    backward pass computes them anew. dropout: probability in [0, 1) of dropping an attention
    weight in training.
    """

    block = 2**24  # 64 MB of float32: glibc gives back at once what is above 32 MB, and holes of less add up

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
