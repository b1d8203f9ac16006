"""torch's files: a zip of a pickle and of each tensor's memory, or the older kind, one after the other."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import as_strided

from shared_tests.layouts.lazy import Thunks, content, members
from shared_tests.layouts.torch_calls import Storage, Tensor
from shared_tests.layouts.torch_pickle import load, tensors
from shared_tests.tensors import Array

MAGIC = 0x1950A86A20F9469CFC6C
"""What the older kind starts with, as a pickle."""


def thunks(path: Path) -> Thunks:
    """{name: how to read it}."""
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    return _of_zip(path) if is_zip else _of_stream(io.BytesIO(path.read_bytes()))


def _of_zip(path: Path) -> Thunks:
    archive, found = members(path)
    pickles = [name for name in found if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in found):
        raise ValueError("no state dict, but a zip of another kind")
    base = pickles[0].removesuffix("data.pkl")
    order = content(archive, found[f"{base}byteorder"]) if f"{base}byteorder" in found else b"little"
    if order != b"little":
        raise ValueError("numbers in another byte order")
    named = tensors(load(io.BytesIO(content(archive, found[pickles[0]]))))
    return {name: partial(_view, partial(_member, archive, found, base), tensor) for name, tensor in named.items()}


def _member(archive: zipfile.ZipFile, found: dict[str, zipfile.ZipInfo], base: str, storage: Storage) -> bytes:
    return content(archive, found[f"{base}data/{storage.key}"])


def _of_stream(file: io.BytesIO) -> Thunks:
    """Magic number, version, machine, the object, the keys of its storages, and these as size and numbers."""
    if load(file) != MAGIC or load(file) != 1001:
        raise ValueError("no magic number")
    load(file)
    named = tensors(load(file))
    sizes = {tensor.storage.key: tensor.storage for tensor in named.values()}
    memory: dict[str, bytes] = {}
    for key in load(file):
        (numel,) = struct.unpack("<q", file.read(8))
        if key not in sizes or numel != sizes[key].numel:
            raise ValueError("memory that belongs to no tensor")
        memory[key] = file.read(numel * sizes[key].dtype.itemsize)
    return {name: partial(_view, lambda storage: memory[storage.key], tensor) for name, tensor in named.items()}


def _view(memory: Callable[[Storage], bytes], tensor: Tensor) -> Array:
    data, dtype = memory(tensor.storage), tensor.storage.dtype
    if len(data) != tensor.storage.numel * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for {tensor.storage.numel} numbers")
    flat = np.frombuffer(data, dtype)[tensor.offset :]
    strides = [step * dtype.itemsize for step in tensor.stride]
    return as_strided(flat, tensor.shape, strides, writeable=False)  # within its memory, as was checked
