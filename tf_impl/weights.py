"""A Keras layer's parameters as a canonical dict of NumPy arrays, and back.

A `Dense` layer with LoRA, or quantized, has other parameters than these: TypeError.
"""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_impl.checks import check_weights


def export_weights(module: layers.Layer) -> dict[str, np.ndarray]:
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


def load_weights(module: layers.Layer, weights: Mapping[str, np.ndarray]) -> None:
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


def parameters_of(module: layers.Layer) -> dict[str, keras.Variable]:
    """Canonical name -> parameter, of a module of this package."""
    parameters: dict[str, keras.Variable] = {}
    for name, layer in vars(module).items():
        if isinstance(layer, layers.Dense):
            if layer.lora_enabled or layer.quantization_mode:  # then `kernel` is a tensor, or of integers
                raise TypeError(f"{layer.path}: expected a plain Dense layer, got one with LoRA or quantized")
            parameters[f"{name}.weight"] = layer.kernel
            parameters |= {f"{name}.bias": layer.bias} if layer.use_bias else {}
        elif isinstance(layer, layers.Layer):
            parameters |= {f"{name}.{inner}": parameter for inner, parameter in parameters_of(layer).items()}
    return parameters | getattr(module, "spread", {})  # a sharded layer has its own by name


def _expected(parameter: keras.Variable) -> tuple[tuple[int, ...], float]:
    """The canonical shape, and the largest number that the parameter holds."""
    return tuple(parameter.shape)[::-1], float(tf.as_dtype(parameter.dtype).max)


def _to_canonical(parameter: keras.Variable) -> np.ndarray:
    """A kernel is (in, out), so it is transposed; a bias, having one axis, stays as it is."""
    array = np.array(tf.convert_to_tensor(parameter.value).numpy().T, order="C")
    return array.astype(np.float32) if parameter.dtype == "bfloat16" else array


def _from_canonical(parameter: keras.Variable, array: np.ndarray) -> None:
    parameter.assign(tf.cast(array.T, parameter.dtype))
