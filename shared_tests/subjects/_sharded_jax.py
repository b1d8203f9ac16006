"""What answers for `jax_sharded`, in the process that has several devices."""

import jax

import jax_impl
from shared_tests.subjects.jax_impl import JaxImpl


class Sharded(JaxImpl):
    """`jax_impl`, every layer sharded over all devices."""

    def __init__(self):
        super().__init__()
        self.mesh = jax.make_mesh((jax.device_count(),), ("heads",))

    def blank(self, *arguments):
        return jax_impl.shard(super().blank(*arguments), self.mesh)
