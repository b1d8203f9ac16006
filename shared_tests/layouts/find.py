"""Which attention layers a file has, by the names and the shapes of its arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from shared_tests.layouts.layer import Layer, read
from shared_tests.layouts.layout import Form, Heads, Layout, Stored
from shared_tests.layouts.names import dotted, joined, matcher
from shared_tests.layouts.table import LAYOUTS
from shared_tests.tensors import Array

FOREIGN = (
    (r"(q|k|query|key)_?(norm|ln|layer_?norm)|norm_(q|k)", "QK-norm, which our function has not"),
    (r"_?gate(_dense|_proj)?", "a gate, which our function has not"),
    (r"bias_(k|v)", "a key and a value of its own, which our function has not"),
    (r"relative_\w+|rel_pos\w*|distance_embedding|pos_bias_\w", "relative positions, which our function has not"),
)
"""Parts of names by which a layer shows that it computes more than ours."""
BUFFERS = (
    r"masked_bias|causal_mask|rotary_emb|inv_freq|embed_positions|layer_?norm(_\d+)?|"
    r"_?dropout\w*|_softmax|seed_generator|rngs?|cached_\w+|cache_index"
)
"""Parts of names that may lie beside a layer's weights and are none of its parameters, in any case."""


@dataclass(frozen=True)
class Candidate:
    """A layout whose names a file has after a prefix."""

    layout: Layout
    form: Form
    prefix: str
    """Dotted."""

    @property
    def shows_heads(self) -> bool:
        """Whether the shapes say how many heads there are."""
        return any("heads" in stored.axes for stored in self.form)

    @property
    def required(self) -> frozenset[str]:
        return frozenset(joined(self.prefix, dotted(stored.name)) for stored in self.form if stored.required)


def candidates(names: Iterable[str], layouts: Iterable[Layout] | None = None) -> list[Candidate]:
    """Every place where all weights of a layout have their names."""
    known = {dotted(name) for name in names}
    found = []
    for layout in LAYOUTS.values() if layouts is None else layouts:
        for form in layout.forms:
            for prefix in sorted(prefixes(known, next(stored for stored in form if stored.required))):
                candidate = Candidate(layout, form, prefix)
                found += [candidate] if candidate.required <= known else []
    return found


def layers(found: Iterable[Candidate]) -> list[list[Candidate]]:
    """Candidates, those together that read the same arrays: each group is a layer of the file."""
    groups: list[list[Candidate]] = []
    for candidate in found:
        near = [group for group in groups if any(one.required & candidate.required for one in group)]
        groups = [group for group in groups if not any(group is one for one in near)]
        groups.append([*(one for group in near for one in group), candidate])
    return sorted(groups, key=lambda group: _natural(group[0].prefix))


def within(found: Iterable[Candidate], prefix: str) -> list[Candidate]:
    """The candidates at a prefix, which may hold '*'; where there is none, those beneath it."""
    pattern, found = matcher(prefix), list(found)
    exact = [one for one in found if pattern.fullmatch(one.prefix)]
    return exact or [one for one in found if re.compile(f"{pattern.pattern}\\.").match(f"{one.prefix}.")]


def take(candidate: Candidate, arrays: Mapping[str, Array], num_heads: Heads) -> Layer:
    """Reads the layer at a candidate's place. Raises ValueError, naming the array, if it is not whole or not ours."""
    start = f"{candidate.prefix}." if candidate.prefix else ""
    under = {dotted(name).removeprefix(start): name for name in arrays if dotted(name).startswith(start)}
    _check_beside(candidate, under, arrays)
    own = [name for stored in candidate.form if (name := dotted(stored.name)) in under]
    try:
        layer = read(
            candidate.layout, candidate.form, {name: np.asarray(arrays[under[name]]) for name in own}, num_heads
        )
    except ValueError as error:
        raise ValueError(_in_full(str(error), under)) from None
    layer.places = {name: under[place] for name, place in layer.places.items()}
    return layer


def _in_full(words: str, under: Mapping[str, str]) -> str:
    """An error that starts with an array's name, with its name in the file."""
    name, colon, rest = words.partition(": ")
    return f"{under.get(name, name)}{colon}{rest}"


def _check_beside(candidate: Candidate, under: Mapping[str, str], arrays: Mapping[str, Array]) -> None:
    """Refuses what lies under the layer's prefix and is neither one of its weights nor known to do no harm."""
    for rest in sorted(set(under) - {dotted(stored.name) for stored in candidate.form}):
        parts = rest.split(".")
        if any(part in candidate.layout.beside for part in parts):
            continue
        for pattern, words in FOREIGN:
            if any(re.fullmatch(pattern, part, re.IGNORECASE) for part in parts):
                raise ValueError(f"{under[rest]}: expected no such array, got {words}")
        is_mask = parts[-1] == "bias" and arrays[under[rest]].ndim > 2
        if not is_mask and not any(re.fullmatch(BUFFERS, part, re.IGNORECASE) for part in parts):
            raise ValueError(f"{under[rest]}: unexpected in layout {candidate.layout.name}")


def prefixes(known: set[str], anchor: Stored) -> set[str]:
    """What stands before an array's name, wherever that is found."""
    name = dotted(anchor.name)
    ends = {one[: -len(name) - 1] for one in known if one.endswith(f".{name}")}
    return ends | ({""} if name in known else set())


def _natural(prefix: str) -> list[tuple[int, str]]:
    """So that layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdecimal() and len(part) < 10 else (-1, part) for part in prefix.split(".")]
