"""A rank of `torch_sharded`: the process that has some of the heads."""

from datetime import timedelta

import torch.distributed

import torch_impl
from shared_tests.subjects.torch_impl import TorchImpl


class Rank(TorchImpl):
    """`torch_impl`, every layer sharded over the ranks, which all call it."""

    def __init__(self):
        super().__init__()
        torch.distributed.init_process_group("gloo", timeout=timedelta(minutes=2))  # the others may have failed
        self.mesh = torch.distributed.init_device_mesh("cpu", (torch.distributed.get_world_size(),))

    def blank(self, *arguments):
        return torch_impl.shard(super().blank(*arguments), self.mesh)
