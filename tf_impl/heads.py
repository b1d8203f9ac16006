"""Which heads of a layer matter, and the layer without some of them, in Keras."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from jaxtyping import Float

from tf_impl.checks import check_array, check_batch, check_importance, check_pruning, check_whole
from tf_impl.multihead import MultiHeadAttention
from tf_impl.parallel import ShardedMultiHeadAttention
from tf_impl.weights import parameters_of


def head_importance(
    layer: MultiHeadAttention, loss: Callable[..., Float[tf.Tensor, ""]], batches: Iterable[Sequence[Any]]
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
    >>> x, y = tf.ones((3, 4, 8)), tf.zeros((3, 4, 8))
    >>> head_importance(layer, lambda layer, x, y: tf.reduce_mean((layer(x, x, x) - y) ** 2), [(x, y)]).shape
    (2,)
    """
    check_whole(layer, not isinstance(layer, ShardedMultiHeadAttention))
    weight, gates, depends = layer.W_o.kernel.value, [], False
    for batch in batches:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weight)  # a frozen layer's would not be
            value = loss(layer, *check_batch(batch))
        check_array("loss", value, "float")
        slope = tape.gradient(value, weight, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        depends |= bool(tf.reduce_any(slope != 0))
        products = tf.cast(weight, tf.float64) * tf.cast(slope, tf.float64)  # (heads * head_dim, num_hiddens)
        gates.append(tf.reduce_sum(tf.reshape(products, (layer.num_heads, -1)), axis=1).numpy())
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
    pruned = type(layer).from_config(layer.get_config() | {"num_heads": len(kept)})
    parts = parameters_of(pruned)
    for name, whole in parameters_of(layer).items():
        if name.startswith(("W_q.", "W_k.", "W_v.")):
            parts[name].assign(tf.gather(whole, rows, axis=-1))  # of a kernel (in, out) and of a bias (out,)
        elif not name.startswith("attention."):
            parts[name].assign(tf.gather(whole, rows) if name == "W_o.weight" else whole)
    pruned.attention.set_weights(layer.attention.get_weights())  # a scoring module's own may be of any kind
    return pruned
