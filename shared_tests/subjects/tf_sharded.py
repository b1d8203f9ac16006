"""`tf_impl` over several devices, as a subject."""

from shared_tests.harness.spread import Spread


class TfSharded(Spread):
    name = "tf_sharded"
    device = "4 CPU devices"
    heads_multiple_of = 4
    answering = "shared_tests.subjects._sharded_tf:Sharded"
    variables = (("CUDA_VISIBLE_DEVICES", "-1"),)
