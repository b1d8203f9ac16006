"""The result of comparing two records, and its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.rounding import GATE
from shared_tests.studies.moving import Moved, Place
from shared_tests.studies.systematic import ALARM, Systematic

SHOWN = 10
"""So many lines of one kind are printed; the JSON has all."""


@dataclass(frozen=True)
class Left:
    """What was not compared: a subject, or its answers to a case in a dtype."""

    subject: str
    key: str
    why: str


@dataclass(frozen=True)
class Row:
    """What moved of a subject in a clause, over all cases and dtypes."""

    subject: str
    clause: str
    compared: int
    moved: int
    beyond: int
    worst: Moved | None
    """The array with the element that moved furthest; none if nothing moved."""

    def cells(self) -> tuple[str, str, str, str]:
        """How many moved; and of the number that moved furthest how far, in units in the last place, and where."""
        count = f"{f'{self.moved:,}' if self.moved else 'none'} of {self.compared:,}"
        if self.worst is None or self.worst.worst is None:
            return count, "", "", ""
        array, place = self.worst, self.worst.worst
        return count, in_sigma(place.sigmas), in_units(place.units), f"{array.case}, {array.dtype}, {array.array}"


@dataclass(frozen=True)
class Drift:
    """What moved between two records. True in a condition if nothing moved beyond the gate."""

    subjects: Sequence[str]
    changed: Sequence[str]
    """Releases, settings and claims that are others."""
    moves: Sequence[Moved]
    """Every array that was compared."""
    systematic: Sequence[Systematic]
    causes: Sequence[str]
    """What explains answers that left the gate."""
    left: Sequence[Left]
    """What was not compared, and why."""

    @property
    def holds(self) -> bool:
        """Whether something was compared, and nothing moved beyond the gate."""
        return bool(self.moves) and not any(array.beyond for array in self.moves)

    def __bool__(self) -> bool:
        return self.holds

    @property
    def rows(self) -> list[Row]:
        """The table: every clause and subject that was compared, in the contract's order."""
        found = [self._row(subject, clause) for clause in CLAUSES for subject in self.subjects]
        return [row for row in found if row.compared]

    def _row(self, subject: str, clause: str) -> Row:
        arrays = [array for array in self.moves if (array.subject, array.clause) == (subject, clause)]
        furthest = max((array for array in arrays if array.moved), key=_how_far, default=None)
        return Row(subject, clause, *_totals(arrays), furthest)

    def verdict(self) -> str:
        """The drift in one line."""
        names = ", ".join(self.subjects) or "no subject"
        compared, moved, beyond = _totals(self.moves)
        of = f"{names}: {moved:,} of {compared:,} numbers moved"
        if not self.moves:
            return f"NOTHING WAS COMPARED: {names}"
        if beyond:
            return f"BEYOND THE GATE: {of}, {beyond:,} by more than {GATE:g}σ or out of the gate"
        if not moved:
            return f"UNMOVED: {names}: {compared:,} numbers are the same bits"
        return f"WITHIN THE GATE: {of}, none by more than {GATE:g}σ" + ("; some systematically" * bool(self.systematic))

    def lines(self) -> Iterator[str]:
        """What is to be said beside the table and the verdict."""
        yield from _first([f"explanation: {cause}" for cause in self.causes])
        yield from _first([f"beyond the gate: {words}" for words in self._beyond()])
        yield from _first([f"systematic: {in_words(found)}" for found in self.systematic])
        why: dict[tuple[str, str], list[str]] = {}
        for one in self.left:
            why.setdefault((one.subject, one.why), []).append(one.key.replace("/", ", "))
        for (subject, words), keys in why.items():
            yield f"not compared: {subject}{': ' * bool(keys[0])}{keys[0]} {words}{_more(len(keys))}"

    def _beyond(self) -> Iterator[str]:
        """A line for each array and dtype, over all cases."""
        found: dict[tuple[str, ...], list[Moved]] = {}
        for array in self.moves:
            if array.beyond:
                found.setdefault((array.subject, array.array, array.dtype, array.note), []).append(array)
        for (*what, note), arrays in found.items():
            furthest, cases = max(arrays, key=_how_far), f" in {len(arrays)} cases" if len(arrays) > 1 else ""
            compared, _, beyond = _totals(arrays)
            words = note or f"{beyond:,} of {compared:,}{cases}, furthest"
            place = f" {at(furthest.worst)}" if furthest.worst else ""
            yield f"{', '.join(what)}: {words}{_more(len(arrays)) if note else ''} in {furthest.case}{place}"

    def __str__(self) -> str:
        return "\n".join([*self.changed, *self.lines(), self.verdict()])

    def __repr__(self) -> str:
        return f"Drift({' | '.join([*self.lines(), self.verdict()])})"

    def as_json(self) -> dict[str, Any]:
        """All of it; of arrays those that moved."""
        return {
            "holds": self.holds,
            "verdict": self.verdict(),
            "gate_sigma": GATE,
            "alarm": ALARM,
            "subjects": list(self.subjects),
            "changed": list(self.changed),
            "rows": [_json(row) | {"title": CLAUSES[row.clause]} for row in self.rows],
            "moved": [_json(array) for array in self.moves if array.moved],
            "systematic": [_json(found) for found in self.systematic],
            "causes": list(self.causes),
            "not_compared": [_json(one) for one in self.left],
        }


def at(place: Place) -> str:
    """An element, and how far it moved."""
    moved = (
        f"{place.before:.9g} → {place.after:.9g}, {in_sigma(place.sigmas)}, {in_units(place.units)} in the last place"
    )
    return f"at {place.index}: {moved}"


def in_sigma(sigmas: float) -> str:
    """With two decimals, while it is small."""
    return f"{sigmas:.2f}σ" if sigmas < 10_000 else f"{sigmas:.3g}σ"


def in_units(units: float) -> str:
    """Whole units as whole numbers, while they are few."""
    number = f"{units:.0f}" if units < 10_000 and units == round(units) else f"{units:.3g}"
    return f"{number} unit{'s' * (number != '1')}"


def in_words(found: Systematic) -> str:
    """What is systematic, and what noise would be."""
    of = f"{found.subject}, {found.clause} {CLAUSES[found.clause]}, {found.dtype}, {found.elements:,} numbers: "
    score = f"(score {found.score:.1f}; beyond {ALARM:g} is no chance)"
    if found.what == "mean":
        return of + f"moved by {found.size:+.2g}σ on average, where noise explains ±{found.usual:.1g}σ {score}"
    return of + f"errors are {found.size:.2g}σ (root mean square), and were {found.usual:.2g}σ {score}"


def _totals(arrays: Sequence[Moved]) -> tuple[int, int, int]:
    """How many numbers were compared, moved, and moved beyond the gate."""
    return sum(x.compared for x in arrays), sum(x.moved for x in arrays), sum(x.beyond for x in arrays)


def _how_far(array: Moved) -> float:
    return array.worst.sigmas if array.worst else float("inf")


def _first(lines: list[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"… and {len(lines) - SHOWN} more lines like these, in the JSON"


def _more(count: int) -> str:
    return f", and {count - 1} more" if count > 1 else ""


def _json(found: Any) -> dict[str, Any]:
    """As JSON has it: a number that is not finite is null."""
    return {name: _finite(value) for name, value in asdict(found).items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value
