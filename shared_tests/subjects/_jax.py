"""JAX with flax nnx, as our subjects use it."""

import warnings
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from shared_tests.harness.backend import Backend


class Jax(Backend):
    def __init__(self):
        self.device = self.devices()[0]

    def devices(self):
        return list(self._devices())

    def _devices(self):
        every = [*jax.devices(), *jax.devices("cpu")]
        return {f"{device.platform.replace('cuda', 'gpu')}:{device.id}": device for device in every}

    def numbers(self, dtype):
        context = ExitStack()
        context.enter_context(jax.enable_x64(dtype == "float64"))
        context.enter_context(jax.default_device(self._devices()[self.device]))
        return context

    def tensor(self, array, dtype):
        return jax.device_put(array.astype(jnp.dtype(dtype)) if array.dtype.kind == "f" else array)

    def array(self, tensor):
        return np.array(tensor, np.float32 if tensor.dtype == jnp.bfloat16 else None)

    def mesh(self, shape):
        return Mesh(np.full(shape, jax.devices()[0]), [f"axis {i}" for i in range(len(shape))])

    def compiled(self, function, *arrays, dtype):
        return jax.jit(function)

    def compiled_by_default(self, function):
        return jax.jit(function)

    def restored(self, layer, *arrays, dtype, folder):
        return nnx.merge(*nnx.split(layer))

    def keep_programs(self, folder):
        # Another thread or process may just be writing what is read here; it is compiled, then.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry", UserWarning)
        jax.config.update("jax_compilation_cache_dir", str(folder / f"jax {jax.__version__}"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    def timed(self, layer, x, valid_lens, need_weights, training):
        x, valid_lens = jnp.asarray(x), jnp.asarray(valid_lens)

        @jax.jit
        def forward(layer, x, valid_lens):
            return layer(x, x, x, valid_lens, need_weights=need_weights)

        @jax.jit
        def step(layer, x, valid_lens):
            graph, parameters, rest = nnx.split(layer, nnx.Param, ...)

            def total(parameters, x):
                return nnx.merge(graph, parameters, rest, copy=True)(x, x, x, valid_lens).sum()

            return jax.grad(total, argnums=(0, 1))(parameters, x)

        call = step if training else forward  # lengths are an argument, or they would be folded into the program
        return lambda: jax.block_until_ready(call(layer, x, valid_lens))

    def product(self, size):
        matrix, multiply = jnp.ones((size, size)), jax.jit(jnp.matmul)
        return lambda: jax.block_until_ready(multiply(matrix, matrix))

    def settings(self):
        return {
            "devices": ", ".join(map(str, jax.devices())),
            "float32 products": jax.config.jax_default_matmul_precision or "default",
            "float64": jax.config.jax_enable_x64,
        }
