"""PyTorch, as our subjects use it."""

import math
from contextlib import nullcontext

import torch
from torch.distributed.device_mesh import DeviceMesh

from shared_tests.harness.backend import Backend


class Torch(Backend):
    device = "cpu:0"

    def devices(self):
        return ["cpu:0", *(f"gpu:{i}" for i in range(torch.cuda.device_count()))]

    @property
    def where(self):
        """The device, in PyTorch's own words."""
        return torch.device("cpu" if self.device == "cpu:0" else self.device.replace("gpu", "cuda"))

    def numbers(self, dtype):
        return nullcontext()

    def tensor(self, array, dtype):
        tensor = torch.tensor(array, device=self.where)
        return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor

    def array(self, tensor):
        tensor = tensor.detach()
        tensor = (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

    def mesh(self, shape):
        ranks = torch.arange(math.prod(shape)).reshape(shape)
        return DeviceMesh("cpu", ranks, _init_backend=False, _rank=0)  # no process meets another

    def compiled(self, function, *arrays, dtype):
        torch.compiler.reset()  # code that raised while it was traced, as a refusal does, is never traced again
        return torch.compile(function, fullgraph=True)

    def compiled_by_default(self, function):
        return torch.compile(function)  # with fullgraph=True, Dynamo wraps an error in its own

    def restored(self, layer, *arrays, dtype, folder):
        tensors = tuple(self.tensor(x, dtype) for x in arrays)
        free = torch.export.Dim.DYNAMIC
        shapes = tuple({0: free, 1: free} if x.ndim > 1 else {0: free} for x in tensors)
        torch.export.save(torch.export.export(layer, tensors, dynamic_shapes=shapes), folder / "layer.pt2")
        return torch.export.load(folder / "layer.pt2").module()

    def timed(self, layer, x, valid_lens, need_weights, training):
        x, valid_lens = self.tensor(x, "float32").requires_grad_(training), self.tensor(valid_lens, "float32")
        inputs = x, *layer.parameters()

        def forward():
            with torch.no_grad():
                layer(x, x, x, valid_lens, need_weights=need_weights)
            self._wait()

        def step():
            torch.autograd.grad(layer(x, x, x, valid_lens).sum(), inputs)
            self._wait()

        return step if training else forward

    def product(self, size):
        matrix = torch.rand(size, size, device=self.where)

        def multiply():
            matrix @ matrix
            self._wait()

        return multiply

    def _wait(self):
        if self.where.type == "cuda":
            torch.cuda.synchronize(self.where)

    def settings(self):
        return {
            "devices": ", ".join(["cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]),
            "threads": torch.get_num_threads(),
            "float32 products": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }
