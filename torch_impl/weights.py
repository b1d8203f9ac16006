"""A PyTorch module's parameters as a canonical dict of NumPy arrays, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_impl.checks import check_weights


def export_weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Copies every parameter of a module of this package out of it.

    Args:
        module: a `MultiHeadAttention`, or a scoring module.

    Returns:
        {canonical name: C-contiguous array}. Names and shapes are those of the book's PyTorch state dict:
        "W_q.weight" (out, in), "W_q.bias" (out,), "attention.w_v.weight" and so on. Arrays have the parameters'
        dtype, but float32 stands for bfloat16, which NumPy lacks; nothing is rounded.

    >>> layer = MultiHeadAttention(7, 5, 11, num_hiddens=12, num_heads=3, dropout=0.0)
    >>> export_weights(layer)["W_q.weight"].shape
    (12, 5)
    """
    return {name: _to_canonical(parameter) for name, parameter in parameters_of(module).items()}


def load_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Copies arrays into the parameters of a module of this package: all of them, or none.

    Args:
        module: a `MultiHeadAttention`, or a scoring module.
        weights: {canonical name: array}, as `export_weights` returns; each is rounded to its parameter's dtype.

    Raises:
        ValueError: names every missing, unexpected, misshaped and non-finite entry; the module is then unchanged.

    >>> layer, twin = (MultiHeadAttention(7, 5, 11, num_hiddens=12, num_heads=3, dropout=0.0) for _ in range(2))
    >>> load_weights(twin, export_weights(layer))
    >>> np.array_equal(export_weights(twin)["W_o.weight"], export_weights(layer)["W_o.weight"])
    True
    """
    parameters = parameters_of(module)
    check_weights(weights, {name: _expected(parameter) for name, parameter in parameters.items()})
    for name, parameter in parameters.items():
        _from_canonical(parameter, np.array(weights[name], np.float64, order="C"))


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """Canonical name -> parameter, of a module of this package."""
    return dict(module.named_parameters())


def _expected(parameter: nn.Parameter) -> tuple[tuple[int, ...], float]:
    """The canonical shape, and the largest number that the parameter holds."""
    return tuple(parameter.shape), torch.finfo(parameter.dtype).max


def _to_canonical(parameter: Any) -> np.ndarray:
    """A linear layer's weight is (out, in) already; what is spread over devices (a `DTensor`) is gathered."""
    tensor = parameter.detach()
    tensor = (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).cpu()
    return np.array((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(), order="C")


def _from_canonical(parameter: Any, array: np.ndarray) -> None:
    tensor, spread = torch.from_numpy(array), getattr(parameter, "placements", None)
    if spread is not None:
        from torch.distributed.tensor import distribute_tensor

        tensor = distribute_tensor(tensor, parameter.device_mesh, spread)
    with torch.no_grad():
        parameter.copy_(tensor)
