"""Which layers of a file are meant, and in which layout: the one that fits, or one line that says what does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared_tests.layouts.find import Candidate, candidates, layers, prefixes, take, within
from shared_tests.layouts.layer import NO_HEADS, Layer
from shared_tests.layouts.layout import Heads, Layout
from shared_tests.layouts.names import dotted, joined, matcher
from shared_tests.layouts.table import LAYOUTS
from shared_tests.tensors import Array

LISTED = 12
"""How many names an error lists at most."""


def choose(arrays: Mapping[str, Array], layout: Layout | None, prefix: str | None) -> list[list[Candidate]]:
    """The layers that are meant, each with the ways in which it can be read; several only where the prefix has a '*'.

    Raises ValueError, in one line, if there is none, or more than one.
    """
    _check_once(arrays)
    chosen = [layout] if layout else list(LAYOUTS.values())
    found = candidates(arrays, chosen)
    groups = layers(within(found, prefix) if prefix else found)
    if not groups:
        raise ValueError(_why_none(arrays, chosen, prefix))
    if len(groups) > 1 and "*" not in (prefix or ""):
        raise ValueError(f"prefix: expected one of {_listed(_places(groups))}, got {prefix or 'none'}")
    return groups


def _check_once(names: Iterable[str]) -> None:
    """Raises ValueError if two names are one to us: which of them is meant nobody can say."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(dotted(name), name)) != name:
            raise ValueError(f"{name}: expected one array of that name, got {other} too")


def settle(
    group: Iterable[Candidate], arrays: Mapping[str, Array], num_heads: Heads, hint: str = ""
) -> tuple[list[Candidate], Layer]:
    """Reads a layer in the layout that fits, or in all that fit and mean the same.

    hint: the layout that the file itself names.

    Raises ValueError, in one line, if none fits, or several do that do not mean the same.
    """
    fits: list[tuple[Candidate, Layer]] = []
    errors: list[str] = []
    for candidate in group:
        try:
            fits.append((candidate, take(candidate, arrays, num_heads)))
        except ValueError as error:
            errors.append(str(error))
    if not fits:
        raise ValueError(min(errors, key=lambda words: not words.startswith(NO_HEADS)))
    fits = [one for one in fits if one[0].layout.name == hint] or fits
    if any(not _same(layer, fits[0][1]) for _, layer in fits[1:]):
        names = ", ".join(dict.fromkeys(candidate.layout.name for candidate, _ in fits))
        raise ValueError(f"layout: expected one (--from), since {names} all fit, got none")
    return [candidate for candidate, _ in fits], fits[0][1]


def _same(left: Layer, right: Layer) -> bool:
    """Whether two readings are one, bit for bit."""
    return left.weights.keys() == right.weights.keys() and all(
        array.shape == right.weights[name].shape and array.tobytes() == right.weights[name].tobytes()
        for name, array in left.weights.items()
    )


def _places(groups: Iterable[list[Candidate]]) -> list[str]:
    return [f"{group[0].prefix or 'no prefix'} ({group[0].layout.name})" for group in groups]


def _why_none(arrays: Mapping[str, Array], layouts: list[Layout], prefix: str | None) -> str:
    known = {dotted(name) for name in arrays}
    elsewhere = _listed(_places(layers(candidates(arrays))))
    also = f"; found: {elsewhere}" if elsewhere else ""
    if prefix and not any(matcher(f"{prefix.rstrip('./')}.").match(f"{name}.") for name in known):
        return f"prefix: expected one that the file has, got {prefix}{also}"
    near = _nearest(known, layouts, prefix)
    if near is not None:
        candidate, missing = near
        names = _listed(joined(candidate.prefix, name) for name in missing)
        return f"{names}: missing in layout {candidate.layout.name}{also}"
    if len(layouts) == 1:
        (layout,) = layouts
        name = layout.forms[0][0].name
        return f"layout: expected names of {layout.name}, such as {name}, got {_listed(arrays, 3)}{also}"
    got = _listed(arrays, 3) or "no arrays"
    return f"expected an attention layer in a known layout (trihead convert --list), got {got}{also}"


def _nearest(known: set[str], layouts: list[Layout], prefix: str | None) -> tuple[Candidate, list[str]] | None:
    """Of the places where at least half of a layout's weights are, the one that lacks least, and what it lacks."""
    best: tuple[float, Candidate, list[str]] | None = None
    for layout in layouts:
        for form in layout.forms:
            names = [dotted(stored.name) for stored in form if stored.required]
            for place in sorted({one for stored in form if stored.required for one in prefixes(known, stored)}):
                missing = [name for name in names if joined(place, name) not in known]
                share, candidate = 1 - len(missing) / len(names), Candidate(layout, form, place)
                if share >= 0.5 and (not best or share > best[0]) and (not prefix or within([candidate], prefix)):
                    best = share, candidate, missing
    return best[1:] if best else None


def _listed(names: Iterable[str], most: int = LISTED) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
