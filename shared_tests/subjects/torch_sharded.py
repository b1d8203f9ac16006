"""`torch_impl` over several devices, as a subject."""

from shared_tests.harness.spread import Spread


class TorchSharded(Spread):
    name = "torch_sharded"
    device = "2 CPU ranks"
    empty = False  # DTensor (torch 2.13.0) divides by zero where it views an empty tensor
    heads_multiple_of = processes = 2
    answering = "shared_tests.subjects._sharded_torch:Rank"
    variables = (("OMP_NUM_THREADS", "1"),)
