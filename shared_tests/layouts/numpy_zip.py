"""`.npz` files, without pickles."""

from __future__ import annotations

import ast
import re
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.layouts.lazy import Thunks, content, members
from shared_tests.tensors import BFLOAT16, Array

HEADER_LIMIT = 10_000


def thunks(path: Path) -> Thunks:
    """{name: how to read it}."""
    archive, found = members(path)
    return {
        name.removesuffix(".npy"): partial(_read, archive, info)
        for name, info in found.items()
        if name.endswith(".npy")
    }


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    return parse(content(archive, info))


def parse(data: bytes) -> Array:
    """The array of a `.npy` file. Raises ValueError for anything that is not plain numbers."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise ValueError("no array of NumPy")
    start, form = (10, "<H") if data[6] == 1 else (12, "<I")
    (length,) = struct.unpack_from(form, data, 8)
    if length > min(HEADER_LIMIT, len(data) - start):
        raise ValueError(f"a header of {length} bytes")
    header = ast.literal_eval(data[start : start + length].decode("latin1").strip())
    dtype, shape, is_fortran = _checked(header)
    body = memoryview(data)[start + length :]
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes for a shape that needs others")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if is_fortran else "C")


def _checked(header: Any) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Of the header, of which nothing is believed, the dtype, the shape and whether the order is Fortran's."""
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("a header other than descr, fortran_order, shape")
    descr, shape = header["descr"], header["shape"]
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]([fiubc]\d{1,2}|V2)", descr):
        raise ValueError(f"elements that are no numbers, {descr!r:.40}")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise ValueError("a shape that is no sizes")
    dtype = BFLOAT16 if descr.endswith("V2") else np.dtype(descr)  # all that NumPy keeps of bfloat16 is its size
    return dtype, shape, bool(header["fortran_order"])
