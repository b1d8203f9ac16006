"""A PyTorch module's parameters as a canonical dict of NumPy arrays, and back."""

import numpy as np
import torch

from torch_impl.checks import check_weights


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
    """Canonical name -> parameter."""
    return dict(module.named_parameters())


def _expected(parameter):
    """The canonical shape, and the largest number that the parameter holds."""
    return tuple(parameter.shape), torch.finfo(parameter.dtype).max


def _to_canonical(parameter):
    """A linear layer's weight is (out, in) already."""
    if parameter.dtype == torch.bfloat16:
        parameter = parameter.float()
    return np.array(parameter.detach().cpu().numpy(), order="C")


def _from_canonical(parameter, array):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(array))
