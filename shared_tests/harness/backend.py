"""What our subjects need of a framework: how it takes and gives arrays, on which device, compiles and is timed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.harness.rounding import Array


class Backend:
    """One framework. Devices are called "cpu:0", "gpu:1": the framework's own names, made one."""

    device: str
    """Where layers and tensors are made."""

    def devices(self) -> list[str]:
        """All there are, the framework's default first."""
        raise NotImplementedError

    def place(self, device: str) -> None:
        """Makes layers and tensors on this device from now on; "cuda" is "gpu", and ":0" may be left out."""
        kind, _, index = device.lower().replace("cuda", "gpu").partition(":")
        found = self.devices()
        if f"{kind}:{index or 0}" not in found:
            raise ValueError(f"--device: expected one of {', '.join(found)}, got {device}")
        self.device = f"{kind}:{index or 0}"

    def numbers(self, dtype: str) -> AbstractContextManager[Any]:
        """Where numbers of `dtype` can be had, on the device."""
        raise NotImplementedError

    def tensor(self, array: Array, dtype: str) -> Any:
        """The framework's tensor of an array, in `dtype` if it is floating."""
        raise NotImplementedError

    def array(self, tensor: Any) -> Array:
        """The NumPy array of a tensor; float32 for bfloat16."""
        raise NotImplementedError

    def mesh(self, shape: tuple[int, ...]) -> Any:
        """The framework's mesh of devices, for a call that is refused: there need not be so many."""
        raise NotImplementedError

    def run(self, function: Callable[..., Any], *arguments: Any, dtype: str = "float64", **options: Any) -> Any:
        """Calls a function of the framework with NumPy arrays, and gives back NumPy arrays."""
        with self.numbers(dtype):
            tensors = [self.tensor(x, dtype) if isinstance(x, np.ndarray) else x for x in arguments]
            result = function(*tensors, **options)
            return tuple(map(self.array, result)) if isinstance(result, tuple) else self.array(result)

    def compiled(self, function: Callable[..., Any], *arrays: Array, dtype: str) -> Callable[..., Any]:
        """A function of tensors under the framework's compiler, for these arrays and any other batch and lengths."""
        raise NotImplementedError

    def compiled_by_default(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same with no options, hence for no shapes in particular."""
        raise NotImplementedError

    def restored(self, layer: Any, *arrays: Array, dtype: str, folder: Path) -> Callable[..., Any]:
        """The layer after the framework's own way of taking it apart and back, for any batch and lengths."""
        raise NotImplementedError

    def keep_programs(self, folder: Path) -> None:
        """Keeps compiled programs in `folder`, for the next process; nothing where nothing is compiled."""

    def timed(self, layer: Any, x: Array, valid_lens: Array, need_weights: bool, training: bool) -> Callable[[], None]:
        """Self attention as the framework runs it fast, in float32: a call that returns when its results are there.

        training: the output is summed, and the gradients of the input and the parameters are found.
        """
        raise NotImplementedError

    def product(self, size: int) -> Callable[[], None]:
        """The product of two square float32 matrices, in the same way."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The framework's devices, and its settings that move numbers."""
        raise NotImplementedError


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back what native code prints to standard error when it is loaded, unless an error comes of it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
