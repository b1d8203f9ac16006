"""Parts of zip files, read when they are asked for and never more of them than the file can hold."""

from __future__ import annotations

import zipfile
from collections.abc import Callable

from shared_tests.tensors import Array

Thunks = dict[str, Callable[[], Array]]

RATIO = 1040
"""How many bytes one byte of a deflated stream can give at most."""


def members(path_or_file: object) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """A zip file, left open, and its members by name. Raises ValueError or BadZipFile for what is not whole."""
    archive = zipfile.ZipFile(path_or_file)  # type: ignore[call-overload]
    found = {info.filename: info for info in archive.infolist()}
    if len(found) < len(archive.infolist()):
        raise ValueError("a zip file that has one name twice")
    return archive, found


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """All bytes of a member, which the end of the file vouches for."""
    if info.file_size > RATIO * max(info.compress_size, 1):
        raise ValueError(f"{info.filename:.80}: {info.compress_size} bytes for {info.file_size}")
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{info.filename:.80}: {len(data)} bytes, expected {info.file_size}")
    return data
