"""From a file in one layout to arrays in another, layer by layer, read back before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from shared_tests.layouts.files import WeightsFile
from shared_tests.layouts.find import Candidate
from shared_tests.layouts.heads import heads_of
from shared_tests.layouts.layer import Layer, form_for, read, write
from shared_tests.layouts.layout import WEIGHTS, Layout
from shared_tests.layouts.search import choose, settle
from shared_tests.tensors import Array, decode, encode


@dataclass
class Block:
    """One layer, as it was read and as it is written."""

    prefix: str
    """As the file spells it; empty where names are written without."""
    layouts: list[Layout]
    """In which it was: several where the same names and numbers are theirs too."""
    layer: Layer
    written: Layer
    arrays: dict[str, Array]
    """{name, with the prefix: array}."""

    @property
    def notes(self) -> list[str]:
        return self.layer.notes + self.written.notes

    @property
    def places(self) -> list[str]:
        """The names of the arrays written, without the prefix."""
        return list(dict.fromkeys(self.written.places.values()))

    def name(self, place: str, separator: str) -> str:
        """The name of an array in the new file."""
        return f"{self.prefix}{separator}{place}" if self.prefix else place


@dataclass
class Conversion:
    """What was asked for."""

    target: Layout
    source: Layout | None = None
    prefix: str | None = None
    num_heads: int | None = None

    def find(self, file: WeightsFile) -> list[list[Candidate]]:
        """The layers that are meant. Raises ValueError, in one line, if there are none, or too many."""
        prefix = self.prefix.strip("./") if self.prefix else None
        first, _, rest = (prefix or "").partition("/")
        if first in file.aliases:
            prefix = file.aliases[first] + (f"/{rest}" if rest else "")
        return choose(file.arrays, self.source, prefix or None)

    def convert(self, file: WeightsFile, group: Iterable[Candidate]) -> Block:
        """Converts one layer. Raises ValueError, in one line that names the array, if that cannot be done."""
        group = list(group)
        heads = self.num_heads
        if not all(candidate.shows_heads for candidate in group):
            heads = heads_of(file.configs, self._named(file, group[0].prefix), heads)
        found, layer = settle(group, file.arrays, heads, file.layout)
        arrays, written = write(self.target, layer.weights, layer.num_heads)
        place = next(iter(layer.places.values()))
        block = Block("", list(dict.fromkeys(one.layout for one in found)), layer, written, arrays)
        if "*" in (self.prefix or ""):
            block.prefix = place.lstrip("./")[: len(found[0].prefix)]
            block.arrays = {block.name(name, self.target.separator): array for name, array in arrays.items()}
        return block

    @staticmethod
    def _named(file: WeightsFile, prefix: str) -> str:
        """A prefix with the user's name for the layer, by which its config is found."""
        names = [name for name, group in file.aliases.items() if f"{prefix}.".startswith(group.replace("/", ".") + ".")]
        return ".".join([prefix, *names])


def to_bytes(conversion: Conversion, blocks: Iterable[Block]) -> bytes:
    """The file, after it was read back and found to hold the same numbers. Raises ValueError if it does not."""
    blocks = list(blocks)
    metadata = {"layout": conversion.target.name}
    heads = {block.layer.num_heads for block in blocks}
    if len(heads) == 1 and None not in heads:
        metadata["num_heads"] = str(heads.pop())
    data = encode({name: array for block in blocks for name, array in block.arrays.items()}, metadata)
    found, _ = decode(data)
    for block in blocks:
        _check_same(conversion.target, block, found)
    return data


def _check_same(target: Layout, block: Block, found: Mapping[str, Array]) -> None:
    """Reads a layer back, and compares bit for bit; what was filled in must be zeros."""
    names = {place: block.name(place, target.separator) for place in block.written.places.values()}
    inputs = {name: block.layer.weights[name].shape[1] for name in WEIGHTS[:3]}
    form = tuple(stored for stored in form_for(target, inputs) if stored.name in names)
    again = read(target, form, {place: found[name] for place, name in names.items()}, block.layer.num_heads)
    for name, array in again.weights.items():
        before = block.layer.weights.get(name, np.zeros_like(array))
        if before.dtype != array.dtype or before.shape != array.shape or before.tobytes() != array.tobytes():
            raise ValueError(f"{names[again.places[name]]}: expected to read back what was written, got other bits")
