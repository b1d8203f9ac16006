"""`torch_impl` over several devices, as a subject."""

from shared_tests.harness.spread import Spread


class TorchSharded(Spread):
    name = "torch_sharded"
    device = "2 CPU ranks"
    heads_multiple_of = processes = 2
    answering = "shared_tests.subjects._sharded_torch:Rank"
    variables = (("OMP_NUM_THREADS", "1"),)
