"""The layer over several devices, in PyTorch: some of its heads on each rank of a `DeviceMesh`.

Every rank makes the same calls with the same inputs, and has the whole output, by one all-reduce. Parameters are
`DTensor`s, with the numbers of the first rank; so are attention weights, of which a rank has those of its heads. A
layer too large for one device is made on the device "meta", sharded, taken off it (`to_empty`), and loaded.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from torch_impl.attention import Lengths
from torch_impl.checks import check_mesh, check_whole
from torch_impl.multihead import MultiHeadAttention


class ShardedMultiHeadAttention(MultiHeadAttention):
    """A `MultiHeadAttention` whose heads are spread over devices. `shard` makes it."""

    part: MultiHeadAttention
    """The layer of this rank's heads, made of the same modules; not registered, or each would be there twice."""

    @property
    def mesh(self) -> DeviceMesh:
        """The devices, along one axis."""
        weight: Any = self.W_q.weight
        return weight.device_mesh

    def forward(
        self,
        queries: Float[Tensor, "batch queries query_size"],
        keys: Float[Tensor, "batch keys key_size"],
        values: Float[Tensor, "batch keys value_size"],
        valid_lens: Lengths | None = None,
        *,
        need_weights: bool = False,
    ) -> (
        Float[Tensor, "batch queries num_hiddens"]
        | tuple[Float[Tensor, "batch queries num_hiddens"], Float[Tensor, "batch heads queries keys"]]
    ):
        """Attends as `MultiHeadAttention` does, every device with its heads.

        Args:
            queries: (batch, queries, query_size), floating.
            keys: (batch, keys, key_size).
            values: (batch, keys, value_size).
            valid_lens: as in `MultiHeadAttention`.
            need_weights: whether to return the attention weights, too.

        Returns:
            (batch, queries, num_hiddens); with need_weights=True the pair of it and the attention weights before
            dropout, (batch, heads, queries, keys).

        Raises:
            TypeError: for a wrong dtype.
            ValueError: for shapes that do not fit each other or the layer.
        """
        with _own_randomness(self):
            result = self.part(queries, keys, values, valid_lens, need_weights=need_weights)
        output, weights = result if need_weights else (result, None)
        output = output.full_tensor()  # the sum over the ranks
        if weights is None:
            return output
        from torch.distributed.tensor import DTensor, Shard

        return output, DTensor.from_local(weights, self.mesh, [Shard(1)])


class _Replicated(nn.Module):
    """A scoring module that is whole on every rank: the gradients of its parameters are added up over the ranks."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *inputs: Any, **options: Any) -> Any:
        from torch.distributed.tensor import Partial

        # The gradients that a rank finds are those of its own heads: a share of the whole.
        parameters: dict[str, Any] = dict(self.attention.named_parameters())
        local = {name: whole.full_tensor(grad_placements=[Partial()]) for name, whole in parameters.items()}
        return torch.func.functional_call(self.attention, local, inputs, options)


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

    >>> torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    >>> layer = MultiHeadAttention(100, 100, 100, num_hiddens=100, num_heads=5, dropout=0.0)
    >>> sharded = shard(layer, torch.distributed.init_device_mesh("cpu", (1,)))
    >>> X, Y, valid_lens = torch.ones(2, 4, 100), torch.ones(2, 6, 100), torch.tensor([3, 2])
    >>> tuple(sharded(X, Y, Y, valid_lens).shape)
    (2, 4, 100)
    >>> torch.distributed.destroy_process_group()
    """
    check_whole(layer, type(layer) is MultiHeadAttention)
    devices = check_mesh(mesh, tuple(mesh.shape) if isinstance(mesh, DeviceMesh) else None, layer.num_heads)
    # Loading this takes half a second, which nobody with one device should wait for.
    from torch.distributed.tensor import Partial, distribute_module
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    sharded: Any = copy.deepcopy(layer)
    sharded.__class__ = ShardedMultiHeadAttention
    plan = dict.fromkeys(("W_q", "W_k", "W_v"), ColwiseParallel())
    parallelize_module(sharded, mesh, plan | {"W_o": RowwiseParallel(output_layouts=Partial(), use_local_output=False)})
    distribute_module(sharded.attention, mesh)
    sizes = layer.key_size, layer.query_size, layer.value_size, layer.num_hiddens, layer.num_heads // devices
    part = MultiHeadAttention(*sizes, dropout=0.0, head_dim=layer.head_dim, device="meta")
    part.W_q, part.W_k, part.W_v, part.W_o = sharded.W_q, sharded.W_k, sharded.W_v, sharded.W_o
    part.attention = _Replicated(sharded.attention)
    vars(sharded)["part"] = part
    return sharded


@contextmanager
def _own_randomness(layer: ShardedMultiHeadAttention) -> Iterator[None]:
    """Randomness of the rank's own, if the layer drops, after which the ranks are in step again."""
    rate: float = getattr(getattr(layer.attention, "dropout", None), "p", 0.0)
    if not layer.attention.training or rate == 0:
        yield
        return
    mesh, seed = layer.mesh, torch.randint(2**62, ())
    devices = [] if mesh.device_type == "cpu" else [torch.get_device_module(mesh.device_type).current_device()]
    with torch.random.fork_rng(devices, device_type=mesh.device_type):
        torch.manual_seed(int(seed) + mesh.get_local_rank())  # read before `fork_rng`, the compiler would warn of it
        yield
