"""Files of weights: what is in them by name, read when it is asked for, with one line for what is truncated or foreign.

Nothing that a file says is believed before it is checked, and nothing in it is ever run.
"""

from __future__ import annotations

import json
import mmap
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.layouts import hdf5, numpy_zip, torch_zip
from shared_tests.layouts.lazy import Thunks
from shared_tests.tensors import Array, decode


class Arrays(Mapping[str, Array]):
    """{name: array} of a file, each read when it is asked for."""

    def __init__(self, path: Path, kind: str, thunks: Thunks) -> None:
        self._path, self._kind, self._thunks = path, kind, thunks

    def __getitem__(self, name: str) -> Array:
        thunk = self._thunks[name]
        try:
            with warnings.catch_warnings(action="ignore"):
                return thunk()
        except Exception as error:  # a file may hold anything
            raise ValueError(_foreign(self._path, self._kind, error)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._thunks)

    def __len__(self) -> int:
        return len(self._thunks)


@dataclass
class Contents:
    """What a reader finds in a file."""

    thunks: Thunks
    configs: dict[str, Any] = field(default_factory=dict)
    """Where it is said -> JSON."""
    aliases: dict[str, str] = field(default_factory=dict)
    """The user's name of a layer -> how the file calls it."""
    layout: str = ""
    """The layout that the file says it has."""


@dataclass
class WeightsFile(Contents):
    """A file of weights, and what it or the file beside it says of the model."""

    arrays: Mapping[str, Array] = field(default_factory=dict)


def open_weights(path: Path) -> WeightsFile:
    """Opens a file, of the kind that its name ends in. Raises ValueError, in one line, if it is not one."""
    endings = [ending for ending in READERS if path.name.lower().endswith(ending)]
    if not endings:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(READERS)}, got another")
    if not path.is_file():
        raise ValueError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'none'}")
    kind, reader = READERS[endings[0]]
    try:
        with warnings.catch_warnings(action="ignore"):
            found = reader(path)
    except ImportError:
        raise
    except Exception as error:  # a file may hold anything
        raise ValueError(_foreign(path, kind, error)) from None
    beside = path.parent / "config.json"
    if beside.is_file() and beside.stat().st_size < 10_000_000:
        found.configs["config.json"] = _json(beside.read_bytes())
    return WeightsFile(**vars(found), arrays=Arrays(path, kind, found.thunks))


def _foreign(path: Path, kind: str, error: Exception) -> str:
    words = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{path}: expected {kind} file, got one that is truncated or foreign ({words:.200})"


def _json(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _safetensors(path: Path) -> Contents:
    with path.open("rb") as file:
        arrays, metadata = decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    heads = metadata.get("num_heads", "")
    configs = {"its metadata": {"num_heads": int(heads)}} if heads.isdecimal() and len(heads) < 6 else {}
    thunks: Thunks = {name: partial(np.asarray, array) for name, array in arrays.items()}
    return Contents(thunks, configs, layout=metadata.get("layout", ""))


def _npz(path: Path) -> Contents:
    return Contents(numpy_zip.thunks(path))


def _torch(path: Path) -> Contents:
    return Contents(torch_zip.thunks(path))


def _h5(path: Path) -> Contents:
    thunks, config = hdf5.thunks(path)
    names = {name.split("/")[1] for name in thunks if name.startswith("model_weights/")}
    aliases = {name: f"model_weights/{name}" for name in names}
    return Contents(thunks, {"its config": _json(config)} if config else {}, aliases)


def _keras(path: Path) -> Contents:
    thunks, config = hdf5.keras_thunks(path)
    parsed = _json(config)
    return Contents(thunks, {"its config": parsed}, hdf5.aliases(parsed))


READERS: dict[str, tuple[str, Callable[[Path], Contents]]] = {
    ".safetensors": ("a safetensors", _safetensors),
    ".npz": ("an npz", _npz),
    ".pt": ("a torch", _torch),
    ".pth": ("a torch", _torch),
    ".bin": ("a torch", _torch),
    ".weights.h5": ("a Keras weights", _h5),
    ".h5": ("an HDF5", _h5),
    ".keras": ("a Keras", _keras),
}
"""By ending: how it is called, and who reads it."""
