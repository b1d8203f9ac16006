"""Which heads of a layer matter, and the layer without some of them, in flax nnx."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from jax_impl.checks import check_array, check_batch, check_importance, check_pruning, check_whole
from jax_impl.multihead import MultiHeadAttention
from jax_impl.parallel import ShardedMultiHeadAttention


def head_importance(
    layer: MultiHeadAttention, loss: Callable[..., Float[Array, ""]], batches: Iterable[Sequence[Any]]
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

    >>> layer = MultiHeadAttention(8, 8, 8, num_hiddens=8, num_heads=2, dropout=0.0, rngs=nnx.Rngs(0))
    >>> x, y = jax.numpy.ones((3, 4, 8)), jax.numpy.zeros((3, 4, 8))
    >>> head_importance(layer, lambda layer, x, y: ((layer(x, x, x) - y) ** 2).mean(), [(x, y)]).shape
    (2,)
    """

    check_whole(layer, not isinstance(layer, ShardedMultiHeadAttention))

    def scalar(layer: MultiHeadAttention, *batch: Any) -> Float[Array, ""]:
        value = loss(layer, *batch)
        check_array("loss", value, "float")
        return value

    weight, gates, depends = layer.W_o.kernel, [], False
    slopes = nnx.grad(scalar, argnums=nnx.DiffState(0, lambda path, _: path == ("W_o", "kernel")))
    for batch in batches:
        slope = np.asarray(slopes(layer, *check_batch(batch)).W_o.kernel[...], np.float64)
        depends |= bool(slope.any())
        products = np.asarray(weight[...], np.float64) * slope  # (heads * head_dim, num_hiddens)
        gates.append(products.reshape(layer.num_heads, -1).sum(axis=1))
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

    >>> layer = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.0, rngs=nnx.Rngs(0))
    >>> pruned = prune_heads(layer, [0, 3])
    >>> pruned.num_heads, pruned.head_dim, pruned.num_hiddens
    (3, 20, 100)
    """
    check_whole(layer, not isinstance(layer, ShardedMultiHeadAttention))
    kept = check_pruning(heads, layer.num_heads)
    rows = np.arange(layer.num_heads * layer.head_dim).reshape(layer.num_heads, layer.head_dim)[kept].ravel()
    pruned = nnx.clone(layer)
    pruned.num_heads = len(kept)
    for linear in (pruned.W_q, pruned.W_k, pruned.W_v):
        linear.out_features = len(rows)
        linear.kernel = _part(linear.kernel, rows, axis=1)
        if linear.bias is not None:
            linear.bias = _part(linear.bias, rows, axis=0)
    pruned.W_o.in_features = len(rows)
    pruned.W_o.kernel = _part(pruned.W_o.kernel, rows, axis=0)
    return pruned


def _part(parameter: nnx.Param, rows: np.ndarray, axis: int) -> Any:
    with jax.enable_x64(True):  # a float64 parameter stays one, wherever this is called
        return parameter.replace(parameter[...].take(rows, axis))
