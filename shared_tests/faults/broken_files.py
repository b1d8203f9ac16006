"""Files of weights that were cut short or edited, and whether a reader survives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared_tests.layouts.files import open_weights
from shared_tests.layouts.lazy import RATIO


def cut(data: bytes, step: int = 1) -> Iterator[bytes]:
    """The file cut at every length."""
    for length in range(0, len(data), step):
        yield data[:length]


def edited(data: bytes, count: int, header: int | None = None) -> Iterator[bytes]:
    """The file with one to four bytes of its first `header`, or of all, replaced, as often as `count` says."""
    random = np.random.default_rng(0)
    for _ in range(count):
        broken = bytearray(data)
        for place in random.integers(0, header or len(data), random.integers(1, 5)):
            broken[place] = int(random.choice([0, 1, 127, 128, 255, int(random.integers(256))]))
        yield bytes(broken)


def outcome(path: Path, data: bytes) -> str:
    """What comes of reading all of a file: "read", or the one line that refuses it.

    Raises AssertionError for an error of another kind or of several lines, or arrays larger than the file can hold.
    """
    path.write_bytes(data)
    try:
        arrays = dict(open_weights(path).arrays)
    except ValueError as error:
        words = str(error)
        assert len(words.splitlines()) == 1, words
        assert words.startswith(f"{path}: expected "), words
        return words
    assert sum(array.nbytes for array in arrays.values()) <= RATIO * len(data)
    return "read"
