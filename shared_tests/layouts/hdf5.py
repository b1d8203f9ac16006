"""Keras' files: HDF5, alone or in a zip with a config. Only arrays are read; a config is JSON, and no code is run."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from typing import Any

from shared_tests.layouts.lazy import RATIO, Thunks, content, members
from shared_tests.tensors import BFLOAT16, Array

CONFIG_LIMIT = 100_000_000


def thunks(path: Path) -> tuple[Thunks, str]:
    """{name: how to read it}, and the model's config in JSON, which the older kind of file has."""
    file = _h5py().File(path, "r")
    config = file.attrs.get("model_config", b"")
    return _datasets(file, path.stat().st_size), config.decode() if isinstance(config, bytes) else str(config)


def keras_thunks(path: Path) -> tuple[Thunks, str]:
    """The same of a `.keras` file."""
    archive, found = members(path)
    data = content(archive, found["model.weights.h5"])
    if found["config.json"].file_size > CONFIG_LIMIT:
        raise ValueError("a config that is too long")
    return _datasets(_h5py().File(io.BytesIO(data), "r"), len(data)), content(archive, found["config.json"]).decode()


def aliases(config: Any) -> dict[str, str]:
    """The user's names of a model's layers -> the groups that Keras stores them in, which it names by class."""
    found: dict[str, str] = {}
    try:
        layers = [(layer["class_name"], layer["config"]["name"]) for layer in config["config"]["layers"]]
    except (KeyError, TypeError):
        return found
    groups: dict[str, int] = {}
    for class_name, name in layers:
        group = snake_case(str(class_name).rpartition(">")[2])
        number = groups[group] = groups.get(group, -1) + 1
        found[str(name)] = f"layers/{group}_{number}" if number else f"layers/{group}"
    return found


def snake_case(name: str) -> str:
    """As Keras does it."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _datasets(file: Any, size: int) -> Thunks:
    found: Thunks = {}
    numbers = _h5py().Dataset

    def visit(name: str, item: Any) -> None:  # meets each object once, and follows no link out of the file
        if isinstance(item, numbers) and item.shape is not None and item.dtype.kind in "fiubV":
            found[name] = partial(_read, item, size)

    file.visititems(visit)
    return found


def _read(dataset: Any, size: int) -> Array:
    """All of a dataset, which lies in the file itself and is not larger than that allows."""
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name:.80}: numbers in another file")
    stored, chunk = dataset.id.get_storage_size(), 1
    for n in dataset.chunks or ():
        chunk *= n
    most = stored if dataset.chunks is None else RATIO * stored
    if stored > size or max(dataset.size, chunk) * dataset.dtype.itemsize > most:
        raise ValueError(f"{dataset.name:.80}: {stored} bytes for shape {dataset.shape}")
    array: Array = dataset[()]
    return array.view(BFLOAT16) if array.dtype == "V2" else array  # all that HDF5 keeps of bfloat16 is its size


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError("h5py: expected it to be installed (pip install 'trihead[files]'), got none") from None
    return h5py
