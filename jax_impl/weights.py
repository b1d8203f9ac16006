"""A flax nnx module's parameters as a canonical dict of NumPy arrays, and back."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.checks import check_weights


def export_weights(module):
    """Returns {canonical name: array}, a C-contiguous copy of every parameter of `module`.

    The names and shapes are those of the book's PyTorch state dict: "W_q.weight" (out, in),
    "W_q.bias" (out,), "attention.w_v.weight" and so on. Arrays have the parameters' dtype, but
    float32 stands for bfloat16, which NumPy lacks; nothing is rounded.
    """
    return {name: _to_canonical(parameter) for name, parameter in _parameters(module).items()}


def load_weights(module, weights):
    """Copies {canonical name: array} into `module`, each rounded to its parameter's dtype.

    All or nothing: raises one ValueError that names every missing, unexpected, misshaped and
    non-finite entry, and then leaves the module as it was.
    """
    parameters = _parameters(module)
    check_weights(weights, {name: _expected(parameter) for name, parameter in parameters.items()})
    for name, parameter in parameters.items():
        _from_canonical(parameter, np.array(weights[name], np.float64, order="C"))


def _parameters(module):
    """Canonical name -> parameter; a linear layer calls its weight `kernel`."""
    parameters = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {".".join(path).replace("kernel", "weight"): parameter for path, parameter in parameters}


def _expected(parameter):
    """The canonical shape, and the largest number that the parameter holds."""
    return parameter.shape[::-1], float(jnp.finfo(parameter.dtype).max)


def _to_canonical(parameter):
    """A kernel is (in, out), so it is transposed; a bias, having one axis, stays as it is."""
    array = np.array(parameter[...].T, order="C")
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def _from_canonical(parameter, array):
    with jax.enable_x64(True):  # a float64 parameter stays one, wherever this is called
        parameter[...] = jnp.asarray(array.T.astype(parameter.dtype))
