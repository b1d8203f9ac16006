"""How many heads a model has, as its config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared_tests.layouts.names import dotted

KEYS = ("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads")
PARTS = ("encoder", "decoder", "text", "vision", "audio")
"""Parts of a model that a config may give heads of their own, in keys as in prefixes."""


def heads_of(configs: Mapping[str, Any], prefix: str, given: int | None) -> int | None:
    """The number of heads that is given, or else the one that a config has for the layer at a prefix.

    Raises ValueError if they contradict each other.
    """
    for where, config in configs.items():
        found = list(_found(config, ""))
        for part in PARTS:  # a number for the decoder says nothing of the encoder
            named = [one for one in found if part in one[0]]
            if part in prefix and named:
                found = named
            elif part not in prefix and len(named) < len(found):
                found = [one for one in found if one not in named]
        by_name = [
            one for one in found if any(name and name in dotted(prefix).split(".") for name in one[0].split("/"))
        ]
        numbers = {number for _, number in by_name or found}
        if len(numbers) == 1:
            (number,) = numbers
            if given not in (None, number):
                raise ValueError(f"heads: expected {number}, as {where} says, got {given}")
            return number
    return given


def _found(config: Any, path: str, depth: int = 0) -> Iterator[tuple[str, int]]:
    """(where it stands, number of heads): where is keys and the names of layers, joined with '/'."""
    if depth > 8:
        return
    if isinstance(config, list):
        for one in config:
            yield from _found(one, path, depth + 1)
    elif isinstance(config, dict):
        path = f"{path}/{config['name']}" if isinstance(config.get("name"), str) else path
        for key, value in config.items():
            if key in KEYS and type(value) is int and 0 < value < 100_000:
                yield f"{path}/{key}", value
            elif isinstance(value, (dict, list)):
                yield from _found(value, f"{path}/{key}", depth + 1)
