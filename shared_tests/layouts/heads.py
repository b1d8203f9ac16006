"""How many heads a model has, as its config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shared_tests.layouts.names import dotted

KEYS = ("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads")
PARTS = ("encoder", "decoder", "text", "vision", "audio")
"""Parts of a model that a config may give heads of their own, in keys as in prefixes."""


class Said(NamedTuple):
    """A number of heads, and where it stands."""

    number: int
    keys: str
    """The keys that lead to it, joined."""
    names: frozenset[str]
    """The names of the layers that it stands in."""


def heads_of(configs: Mapping[str, Any], prefix: str, given: int | None) -> int | None:
    """The number of heads that is given, or else the one that a config has for the layer at a prefix.

    Raises ValueError if they contradict each other.
    """
    parts = set(dotted(prefix).split("."))
    for where, config in configs.items():
        found = list(_said(config, Said(0, "", frozenset())))
        found = [one for one in found if one.names & parts] or found
        for part in PARTS:  # a number for the decoder says nothing of the encoder
            of_part = [one for one in found if part in one.keys]
            others = [one for one in found if part not in one.keys]
            found = (of_part if part in prefix else others) or found
        numbers = {one.number for one in found}
        if len(numbers) == 1:
            (number,) = numbers
            if given not in (None, number):
                raise ValueError(f"heads: expected {number}, as {where} says, got {given}")
            return number
    return given


def _said(config: Any, place: Said, depth: int = 0) -> Iterator[Said]:
    """All numbers of heads in JSON."""
    if depth > 10:
        return
    if isinstance(config, list):
        for one in config:
            yield from _said(one, place, depth + 1)
    elif isinstance(config, dict):
        names = place.names | {name for name in [config.get("name")] if isinstance(name, str)}
        for key, value in config.items():
            there = Said(0, f"{place.keys} {key}", names)
            if key in KEYS and type(value) is int and 0 < value < 100_000:
                yield there._replace(number=value)
            else:
                yield from _said(value, there, depth + 1)
