"""The layer over several devices, in flax nnx: some of its heads on each device of a `Mesh`.

Inputs are whole on every device, and so is the output, by one all-reduce; attention weights are one array, of which
a device has those of its heads. A layer that is made and sharded within one `jax.jit` is nowhere whole. (Left to
`jax.jit` alone, with its parameters placed, a whole layer would gather queries, keys and values.) Outside `jax.jit`,
JAX finds gradients on a mesh that `jax.make_mesh` makes only within `jax.set_mesh(mesh)`.
"""

from functools import partial
from typing import Any

import jax
from flax import nnx
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from jax_impl.attention import Lengths, Randomness, draw_key
from jax_impl.checks import check_inputs, check_mesh, check_whole
from jax_impl.multihead import MultiHeadAttention


class ShardedMultiHeadAttention(MultiHeadAttention):
    """A `MultiHeadAttention` whose heads are spread over devices. `shard` makes it."""

    mesh: Mesh
    """The devices."""
    axis: str
    """The axis of the mesh along which the heads are spread."""

    def __call__(
        self,
        queries: Float[Array, "batch queries query_size"],
        keys: Float[Array, "batch keys key_size"],
        values: Float[Array, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
        rngs: Randomness | None = None,
    ) -> (
        Float[Array, "batch queries num_hiddens"]
        | tuple[Float[Array, "batch queries num_hiddens"], Float[Array, "batch heads queries keys"]]
    ):
        """Attends as `MultiHeadAttention` does, every device with its heads.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `MultiHeadAttention`.
            need_weights: whether to return the attention weights, too.
            rngs: the randomness of dropout in this call; None: the layer's own, whose state `jax.jit` does not keep.

        Returns:
            (batch, queries, num_hiddens); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, heads, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other or the layer.
        """
        # Also here: of what is no array `jax.jit` speaks first, and in its own words.
        check_inputs(queries, keys, values, valid_lens, self.query_size, self.key_size, self.value_size)
        # The key is drawn here, where the layer's own state can be written.
        key = draw_key(self.attention, rngs)
        return _attend_in_parts(self, key, queries, keys, values, valid_lens, need_weights=need_weights)


@partial(jax.jit, static_argnames="need_weights")  # by itself, `shard_map` compiles each operation at each call
def _attend_in_parts(layer: ShardedMultiHeadAttention, key: Array | None, *inputs: Any, need_weights: bool) -> Any:
    """What the layer gives for the inputs and for the key of its dropout, each device attending with its heads."""
    axis, whole = layer.axis, PartitionSpec()
    graph, *states = nnx.split(layer, nnx.Param, ...)

    def attend(states, key, *inputs):
        part = nnx.merge(graph, *states, copy=True)
        part.num_heads //= layer.mesh.shape[axis]
        bias, part.W_o.bias, part.W_o.use_bias = part.W_o.bias, None, False  # it is added once, to the sum
        key = None if key is None else jax.random.fold_in(key, jax.lax.axis_index(axis))
        output = MultiHeadAttention.__call__(part, *inputs, need_weights=need_weights, rngs=key)
        output, weights = output if need_weights else (output, None)
        output = jax.lax.psum(output, axis)
        output = output if bias is None else output + bias[...]
        return (output, weights) if need_weights else output

    specs = [_specs(states[0], axis), whole], whole, whole, whole, whole, whole
    out_specs = (whole, PartitionSpec(None, axis)) if need_weights else whole
    spread = jax.shard_map(attend, mesh=layer.mesh, in_specs=specs, out_specs=out_specs, axis_names={axis})
    return spread(states, key, *inputs)


def shard(layer: MultiHeadAttention, mesh: Mesh, axis: str | None = None) -> ShardedMultiHeadAttention:
    """Spreads the heads of a layer over devices, each some of them (Shoeybi et al. 2019, section 3).

    A device has its heads' rows of W_q, W_k and W_v and their columns of W_o; the bias of W_o and the parameters of the
    scoring module are not cut. What the devices project with W_o is added up. Each drops attention weights by itself,
    and what a scoring module keeps of a call (`attention_weights`) is that of one device's heads.

    Args:
        layer: the layer, which stays as it is.
        mesh: the devices, along one axis.
        axis: of a mesh of more, the one along which the heads are spread; None: the mesh has one.

    Returns:
        A layer that is called as it is. `export_weights` gives whole arrays, and `load_weights` takes them.

    Raises:
        TypeError: for what is no `MultiHeadAttention`, or is sharded already, or is no mesh.
        ValueError: for a mesh of more than one axis, or heads that do not divide evenly.

    >>> layer = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.0, rngs=nnx.Rngs(0))
    >>> sharded = shard(layer, jax.make_mesh((1,), ("heads",)))
    >>> X, Y, valid_lens = jax.numpy.ones((2, 4, 100)), jax.numpy.ones((2, 6, 100)), jax.numpy.array([3, 2])
    >>> sharded(X, Y, Y, valid_lens).shape
    (2, 4, 100)
    """
    check_whole(layer, type(layer) is MultiHeadAttention)
    check_mesh(mesh, _sizes(mesh, axis), layer.num_heads)
    sharded: Any = nnx.clone(layer)
    sharded.__class__ = ShardedMultiHeadAttention
    sharded.mesh, sharded.axis = mesh, mesh.axis_names[0] if axis is None else axis
    parameters, rest = nnx.state(sharded, nnx.Param), nnx.state(sharded, nnx.Not(nnx.Param))
    places = jax.tree.map(partial(NamedSharding, mesh), _specs(parameters, sharded.axis))
    parameters = jax.device_put(parameters, places)
    kind = mesh.axis_types[mesh.axis_names.index(sharded.axis)]
    if kind is AxisType.Auto:  # where device_put binds nothing under jax.jit
        parameters = jax.lax.with_sharding_constraint(parameters, places)
    nnx.update(sharded, parameters, jax.device_put(rest, NamedSharding(mesh, PartitionSpec())))
    return sharded


def _sizes(mesh: object, axis: str | None) -> tuple[int, ...] | None:
    """The number of devices along each axis of a mesh, or along the one that is named; None of what is no mesh."""
    if not isinstance(mesh, Mesh):
        return None
    if axis is None:
        return mesh.axis_sizes
    if axis not in mesh.axis_names:
        raise ValueError(f"axis: expected one of {', '.join(mesh.axis_names)}, got {axis}")
    return (mesh.shape[axis],)


def _specs(parameters: nnx.State, axis: str) -> Any:
    """Where parameters are cut: kernels of W_q, W_k and W_v along the outputs, that of W_o along the inputs."""
    columns = {"kernel": PartitionSpec(None, axis), "bias": PartitionSpec(axis)}
    cuts: dict[Any, dict[Any, PartitionSpec]] = dict.fromkeys(("W_q", "W_k", "W_v"), columns)
    cuts["W_o"] = {"kernel": PartitionSpec(axis)}
    return nnx.from_flat_state(
        (path, parameter.replace(cuts.get(path[0], {}).get(path[1], PartitionSpec())))
        for path, parameter in nnx.to_flat_state(parameters)
    )
