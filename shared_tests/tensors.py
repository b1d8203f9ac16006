"""Tensors as bytes: the safetensors format, read strictly, and bfloat16, which NumPy lacks, as the bits that it is."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""bfloat16 as its bits: NumPy can move such elements, but do no arithmetic on them."""
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
    "C64": np.dtype("<c8"),
    "F8_E4M3": np.dtype([("float8_e4m3", "u1")]),
    "F8_E5M2": np.dtype([("float8_e5m2", "u1")]),
    "F8_E4M3FNUZ": np.dtype([("float8_e4m3fnuz", "u1")]),
    "F8_E5M2FNUZ": np.dtype([("float8_e5m2fnuz", "u1")]),
    "F8_E8M0": np.dtype([("float8_e8m0", "u1")]),
}
"""What safetensors calls a dtype. Eight-bit floats are read so as to be refused by name."""
HEADER_LIMIT = 100_000_000


def decode(data: bytes | mmap.mmap) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a safetensors file, as read-only views of `data`, and the texts of its metadata.

    Raises ValueError for anything but a whole file of this format.
    """
    if len(data) < 8:
        raise ValueError("no header")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(HEADER_LIMIT, len(data) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("a header nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("a header that is no table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("metadata that is no table of texts")
    body, arrays, spans = memoryview(data)[8 + length :].toreadonly(), {}, []
    for name, entry in header.items():
        start, stop, dtype, shape = _entry(name, entry, len(body))
        arrays[name] = np.frombuffer(body[start:stop], dtype).reshape(shape)
        spans.append((start, stop))
    _check_spans(spans, len(body))
    return arrays, metadata


def encode(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, each array's elements in C order whatever their order in memory."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, start = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):  # aligned
        code = dtype_code(array.dtype)
        bits = np.ascontiguousarray(array).view(np.uint16) if code == "BF16" else array
        parts.append(np.asarray(bits, bits.dtype.newbyteorder("<")).tobytes())
        end = start + len(parts[-1])
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def dtype_code(dtype: np.dtype[Any]) -> str:
    """What safetensors calls a dtype. Raises ValueError if it has no name for it."""
    if is_bfloat16(dtype):
        return "BF16"
    for code, known in DTYPES.items():
        if dtype.newbyteorder("<") == known:
            return code
    raise ValueError(f"expected a dtype that safetensors has, got {dtype}")


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether it is ours, or that of the package ml_dtypes, which jax and tensorflow bring."""
    return dtype == BFLOAT16 or dtype.name == "bfloat16"


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether its numbers are float64, float32, float16 or bfloat16."""
    return is_bfloat16(dtype) or (dtype.kind == "f" and dtype.itemsize <= 8)


def widened(array: Array) -> Array:
    """The same numbers, in float32 if they are bfloat16."""
    if not is_bfloat16(array.dtype):
        return array
    bits = np.ascontiguousarray(array).view(np.uint16).reshape(array.shape)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a header that has one name twice")
    return table


def _entry(name: str, entry: Any, size: int) -> tuple[int, int, np.dtype[Any], tuple[int, ...]]:
    """Where an array lies, its dtype and its shape, of which nothing is believed."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name:.80}: an entry other than dtype, shape, data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"{name:.80}: dtype {code!r:.40}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError(f"{name:.80}: shape or offsets that are no sizes")
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise ValueError(f"{name:.80}: offsets outside the file")
    count = DTYPES[code].itemsize
    for n in shape[:33]:
        count *= n
    if len(shape) > 32 or count != offsets[1] - offsets[0]:
        raise ValueError(f"{name:.80}: a shape that needs other than {offsets[1] - offsets[0]} bytes")
    return offsets[0], offsets[1], DTYPES[code], tuple(shape)


def _check_spans(spans: list[tuple[int, int]], size: int) -> None:
    """Arrays lie one after the other and fill the file: nothing overlaps, nothing is hidden between them."""
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise ValueError("arrays that overlap or leave gaps")
        end = stop
    if end != size:
        raise ValueError(f"{size - end} bytes that belong to no array")
