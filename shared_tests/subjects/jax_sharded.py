"""`jax_impl` over several devices, as a subject."""

from shared_tests.harness.spread import Spread


class JaxSharded(Spread):
    name = "jax_sharded"
    device = "4 CPU devices"
    heads_multiple_of = 4
    answering = "shared_tests.subjects._sharded_jax:Sharded"
    variables = (
        ("JAX_PLATFORMS", "cpu"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=4"),
    )
