"""The layer over several devices, in Keras: some of its heads on each device of a `keras.distribution.DeviceMesh`.

Each device has a smaller layer, and the first adds up what they give; there the output is, and what is not cut. This
mirrors what the other two compute, and not how: DTensor is not used (it fails on fused and additive attention), nor
`keras.distribution` but for its mesh (on TensorFlow it distributes nothing).
"""

from typing import Any, NoReturn

import keras
import tensorflow as tf
from jaxtyping import Float
from keras import layers
from keras.distribution import DeviceMesh

from tf_impl.attention import Lengths, Mask
from tf_impl.checks import check_mesh, check_whole
from tf_impl.multihead import MultiHeadAttention
from tf_impl.weights import parameters_of


class ShardedMultiHeadAttention(MultiHeadAttention):
    """A `MultiHeadAttention` whose heads are spread over devices. `shard` makes it."""

    def __init__(self, layer: MultiHeadAttention, mesh: DeviceMesh) -> None:
        # Not that of MultiHeadAttention, which would make whole parameters.
        layers.Layer.__init__(self, name=layer.name, dtype=layer.dtype_policy, trainable=layer.trainable)
        self.supports_masking = layer.supports_masking
        self.supports_jit = False  # XLA takes no variables of several devices; on GPUs Keras would use it by default
        for name in ("query_size", "key_size", "value_size", "num_hiddens", "num_heads", "head_dim", "dropout"):
            setattr(self, name, getattr(layer, name))
        self.mesh, config = mesh, layer.get_config()
        with tf.device(mesh.devices[0]):
            self.attention = keras.saving.deserialize_keras_object(config["attention"])
            self.bias = self.add_weight((layer.num_hiddens,), name="bias") if layer.W_o.use_bias else None
        self.attention.set_weights(layer.attention.get_weights())
        config |= {"num_heads": layer.num_heads // mesh.devices.size, "attention": self.attention}
        self.parts = []
        for device in mesh.devices:
            with tf.device(device):
                self.parts.append(_Part(**config))
        self.spread = _spread(self.parts) | ({} if self.bias is None else {"W_o.bias": self.bias})
        whole = parameters_of(layer)
        for name, parameter in self.spread.items():
            parameter.assign(whole[name])
        self.built = True

    def call(
        self,
        queries: Float[tf.Tensor, "batch queries query_size"],
        keys: Float[tf.Tensor, "batch keys key_size"],
        values: Float[tf.Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        training: bool | None = None,
        keys_mask: Mask | None = None,
        values_mask: Mask | None = None,
    ) -> (
        Float[tf.Tensor, "batch queries num_hiddens"]
        | tuple[Float[tf.Tensor, "batch queries num_hiddens"], Float[tf.Tensor, "batch heads queries keys"]]
    ):
        """Attends as `MultiHeadAttention` does, every device with its heads.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `MultiHeadAttention`.
            need_weights: whether to return the attention weights, too.
            training: whether to drop attention weights.
            keys_mask: (batch, keys), which Keras takes from its own mask on `keys`: False hides a key.
            values_mask: the same, from the mask on `values`.

        Returns:
            (batch, queries, num_hiddens); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, heads, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other or the layer.
        """
        options: dict[str, Any] = {"need_weights": need_weights, "training": training}
        options |= {"keys_mask": keys_mask, "values_mask": values_mask}
        results = []
        for device, part in zip(self.mesh.devices, self.parts, strict=True):
            with tf.device(device):
                results.append(part(queries, keys, values, valid_lens, **options))
        outputs, weights = zip(*results, strict=True) if need_weights else (results, None)
        with tf.device(self.mesh.devices[0]):
            output = tf.add_n(outputs)
            output = output if self.bias is None else tf.nn.bias_add(output, self.bias)
            return (output, tf.concat(weights, axis=1)) if need_weights else output

    def get_config(self) -> NoReturn:
        raise NotImplementedError("get_config: expected a layer that is not sharded; export_weights gives the weights")


class _Part(MultiHeadAttention):
    """The layer of some heads. Its W_o gives a share of the output, without the bias, which is added once."""

    def build(self) -> None:
        self.W_o.use_bias = False
        super().build()


class _Spread:
    """Variables of several devices, as the one whose parts they are along an axis."""

    def __init__(self, variables: list[keras.Variable], axis: int) -> None:
        self.variables, self.axis, self.dtype = variables, axis, variables[0].dtype

    @property
    def value(self) -> tf.Tensor:
        return tf.concat([variable.value for variable in self.variables], self.axis)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def assign(self, value: Any) -> None:
        for variable, part in zip(self.variables, tf.split(value, len(self.variables), self.axis), strict=True):
            variable.assign(part)


def shard(layer: MultiHeadAttention, mesh: DeviceMesh) -> ShardedMultiHeadAttention:
    """Spreads the heads of a layer over devices, each some of them (Shoeybi et al. 2019, section 3).

    A device has its heads' rows of W_q, W_k and W_v and their columns of W_o; the bias of W_o and the parameters of the
    scoring module are not cut. What the devices project with W_o is added up. Each drops attention weights by itself,
    and what a scoring module keeps of a call (`attention_weights`) is that of one device's heads.

    Args:
        layer: the layer, which stays as it is.
        mesh: the devices, along one axis.

    Returns:
        A layer that is called as it is. `export_weights` gives whole arrays, and `load_weights` takes them.

    Raises:
        TypeError: for what is no `MultiHeadAttention`, or is sharded already, or is no mesh.
        ValueError: for a mesh of more than one axis, or heads that do not divide evenly.

    >>> layer = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.0)
    >>> sharded = shard(layer, DeviceMesh((1,), ["heads"], ["cpu:0"]))
    >>> X, Y, valid_lens = tf.ones((2, 4, 100)), tf.ones((2, 6, 100)), tf.constant([3, 2])
    >>> tuple(sharded(X, Y, Y, valid_lens).shape)
    (2, 4, 100)
    """
    check_whole(layer, type(layer) is MultiHeadAttention)
    check_mesh(mesh, tuple(mesh.shape) if isinstance(mesh, DeviceMesh) else None, layer.num_heads)
    return ShardedMultiHeadAttention(layer, mesh)


def _spread(parts: list[_Part]) -> dict[str, Any]:
    """Canonical name -> parameter. Kernels of W_q, W_k and W_v are cut along the outputs, W_o's along the inputs."""
    spread = {}
    for name, axis in (("W_q", -1), ("W_k", -1), ("W_v", -1), ("W_o", 0)):
        linears = [getattr(part, name) for part in parts]
        spread[f"{name}.weight"] = _Spread([linear.kernel for linear in linears], axis)
        if linears[0].use_bias:
            spread[f"{name}.bias"] = _Spread([linear.bias for linear in linears], -1)
    return spread
