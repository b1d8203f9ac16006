"""Arrays in safetensors files: read with one clear line for what is no such file, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

from platformdirs import user_cache_dir

from shared_tests.tensors import Array, decode, encode, widened


def read_arrays(path: Path | Traversable) -> dict[str, Array]:
    """Reads {name: array}, float32 for bfloat16. Raises ValueError, in one line, for what is no safetensors file."""
    try:
        arrays, _ = decode(path.read_bytes())
        return {name: widened(array).copy() for name, array in arrays.items()}
    except ValueError as error:
        raise ValueError(
            f"{path}: expected a safetensors file, got one that is truncated or foreign ({error})"
        ) from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes {name: array}, to a temporary name that then replaces `path`, which until then stays as it was."""
    write_bytes(path, encode(arrays))


def programs_folder() -> Path:
    """Where compiled programs are kept: the user's cache folder, and in it one for each kind of processor."""
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith(("flags", "Features"))), "")
    processor = f"{platform.machine()} {platform.processor()} {flags}"
    return Path(user_cache_dir("trihead")) / "programs" / hashlib.sha256(processor.encode()).hexdigest()[:16]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, where a link points if it is one."""
    path = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
