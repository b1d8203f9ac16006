"""Which heads of a layer matter, and the layer without some of them, in PyTorch."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_impl.checks import check_array, check_batch, check_importance, check_pruning, check_whole
from torch_impl.multihead import MultiHeadAttention
from torch_impl.parallel import ShardedMultiHeadAttention


@torch.enable_grad()
def head_importance(
    layer: MultiHeadAttention, loss: Callable[..., Float[Tensor, ""]], batches: Iterable[Sequence[Any]]
) -> Float[np.ndarray, "heads"]:
    """Says how much a loss depends on each head (Michel, Levy & Neubig 2019, section 4.1).

    That is |d loss / d gate|, averaged over batches, of a gate of value 1 that multiplies what the head found. Such a
    gate is a factor of the head's columns of W_o, so the gradient of W_o alone gives it. No parameter changes.

    Args:
        layer: the layer, by itself or within a model, in evaluation or in training as it is.
        loss: loss(layer, *batch) is a scalar, which depends on the layer that it is given.
        batches: what the loss takes beside the layer, a tuple for each batch. The paper's have one example each.

    Returns:
        (heads,) in float64, in units of the loss; larger is more important.

    Raises:
        TypeError: for a batch that is no tuple, a loss that is no floating scalar, or a layer that is sharded.
        ValueError: for no batches, a loss of another shape, or one that depends on no head.

    >>> layer = MultiHeadAttention(8, 8, 8, num_hiddens=8, num_heads=2, dropout=0.0)
    >>> x, y = torch.ones(3, 4, 8), torch.zeros(3, 4, 8)
    >>> head_importance(layer, lambda layer, x, y: ((layer(x, x, x) - y) ** 2).mean(), [(x, y)]).shape
    (2,)
    """
    check_whole(layer, not isinstance(layer, ShardedMultiHeadAttention))
    weight, gates, depends = layer.W_o.weight, [], False
    required = weight.requires_grad
    weight.requires_grad_()  # a frozen layer's does not
    try:
        for batch in batches:
            value = loss(layer, *check_batch(batch))
            check_array("loss", value, "float")
            slope = _gradient(value, weight)
            depends |= bool(slope.any())
            products = weight.detach().cpu().double() * slope.cpu().double()  # (num_hiddens, heads * head_dim)
            gates.append(products.unflatten(1, (layer.num_heads, layer.head_dim)).sum(dim=(0, 2)).numpy())
    finally:
        weight.requires_grad_(required)
    check_importance(gates, depends)
    return np.abs(gates).mean(axis=0)


def prune_heads(layer: MultiHeadAttention, heads: Iterable[int]) -> MultiHeadAttention:
    """Makes a smaller layer, without some heads; it gives what the whole one gives with the gates of these at 0.

    Gone are their rows of W_q, W_k and W_v, and their columns of W_o. The widths of the output and of a head stay, and
    so do the scoring module and the mode.

    Args:
        layer: the layer, which stays as it is.
        heads: which to remove, counted from 0; not all of them.

    Returns:
        A layer of as many heads fewer.

    Raises:
        TypeError: for a head that is no integer, or a layer that is sharded.
        ValueError: for a head that the layer has not, one that comes twice, or all of them.

    >>> layer = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.0)
    >>> pruned = prune_heads(layer, [0, 3])
    >>> pruned.num_heads, pruned.head_dim, pruned.num_hiddens
    (3, 20, 100)
    """
    check_whole(layer, not isinstance(layer, ShardedMultiHeadAttention))
    kept = check_pruning(heads, layer.num_heads)
    rows = np.arange(layer.num_heads * layer.head_dim).reshape(layer.num_heads, layer.head_dim)[kept].ravel()
    pruned = copy.deepcopy(layer)
    pruned.num_heads = len(kept)
    for linear in (pruned.W_q, pruned.W_k, pruned.W_v):
        linear.out_features = len(rows)
        linear.weight = _part(linear.weight, rows, dim=0)
        if linear.bias is not None:
            linear.bias = _part(linear.bias, rows, dim=0)
    pruned.W_o.in_features = len(rows)
    pruned.W_o.weight = _part(pruned.W_o.weight, rows, dim=1)
    return pruned


def _gradient(value: Tensor, weight: Tensor) -> Tensor:
    """Zeros where the value does not depend on the weight, which autograd takes for a mistake."""
    if not value.requires_grad:
        return torch.zeros_like(weight)
    return torch.autograd.grad(value, weight, allow_unused=True, materialize_grads=True)[0]


def _part(parameter: Tensor, rows: np.ndarray, dim: int) -> nn.Parameter:
    index = torch.as_tensor(rows, device=parameter.device)
    return nn.Parameter(parameter.detach().index_select(dim, index), requires_grad=parameter.requires_grad)
