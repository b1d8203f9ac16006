"""A flax nnx module's parameters as a canonical dict of NumPy arrays, and back."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.checks import check_weights


def export_weights(module: nnx.Module) -> dict[str, np.ndarray]:
    """Copies every parameter of a module of this package out of it.

    Args:
        module: a `MultiHeadAttention`, or a scoring module.

    Returns:
        {canonical name: C-contiguous array}. Names and shapes are those of the book's PyTorch state dict:
        "W_q.weight" (out, in), "W_q.bias" (out,), "attention.w_v.weight" and so on. Arrays have the parameters'
        dtype, but float32 stands for bfloat16, which NumPy lacks; nothing is rounded.

    >>> layer = MultiHeadAttention(7, 5, 11, num_hiddens=12, num_heads=3, dropout=0.0, rngs=nnx.Rngs(0))
    >>> export_weights(layer)["W_q.weight"].shape
    (12, 5)
    """
    return {name: _to_canonical(parameter) for name, parameter in parameters_of(module).items()}


def load_weights(module: nnx.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Copies arrays into the parameters of a module of this package: all of them, or none.

    Args:
        module: a `MultiHeadAttention`, or a scoring module.
        weights: {canonical name: array}, as `export_weights` returns; each is rounded to its parameter's dtype.

    Raises:
        ValueError: names every missing, unexpected, misshaped and non-finite entry; the module is then unchanged.

    >>> layer, twin = (MultiHeadAttention(7, 5, 11, 12, 3, dropout=0.0, rngs=nnx.Rngs(seed)) for seed in range(2))
    >>> load_weights(twin, export_weights(layer))
    >>> np.array_equal(export_weights(twin)["W_o.weight"], export_weights(layer)["W_o.weight"])
    True
    """
    parameters = parameters_of(module)
    check_weights(weights, {name: _expected(parameter) for name, parameter in parameters.items()})
    for name, parameter in parameters.items():
        _from_canonical(parameter, np.array(weights[name], np.float64, order="C"))


def parameters_of(module: nnx.Module) -> dict[str, nnx.Param]:
    """Canonical name -> parameter, of a module of this package."""
    parameters = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {".".join(map(str, path)).replace("kernel", "weight"): parameter for path, parameter in parameters}


def _expected(parameter: nnx.Param) -> tuple[tuple[int, ...], float]:
    """The canonical shape, and the largest number that the parameter holds."""
    return parameter.shape[::-1], float(jnp.finfo(parameter.dtype).max)


def _to_canonical(parameter: nnx.Param) -> np.ndarray:
    """A kernel is (in, out), so it is transposed; a bias, having one axis, stays as it is."""
    array = np.array(np.asarray(parameter[...]).T, order="C")
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def _from_canonical(parameter: nnx.Param, array: np.ndarray) -> None:
    with jax.enable_x64(True):  # a float64 parameter stays one, wherever this is called
        place = parameter.sharding if parameter.committed else None  # what is spread over devices stays so
        parameter[...] = jax.device_put(array.T.astype(parameter.dtype), place)
