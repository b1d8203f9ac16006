"""Drift: what moved between two records, judged by the noise that today's oracle predicts for each element."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shared_tests.cases.case import Trial
from shared_tests.harness.rounding import Array
from shared_tests.studies.drift import Drift, Left
from shared_tests.studies.installation import changed_releases, changes
from shared_tests.studies.moving import Moved, Moves, different, no_array
from shared_tests.studies.recorded import GRADIENT, Arrays, Asked, OfTrial, all_asked
from shared_tests.studies.recording import Record, read_record
from shared_tests.studies.replaying import Stray, explanations
from shared_tests.studies.systematic import Draws, Sums

Pairs = Mapping[str, tuple[str, str]]
"""By the name after (and before, if that is another): the names before and after."""


def drift(
    before: Record | str | Path, after: Record | str | Path, advance: Callable[[str], None] = lambda _: None
) -> Drift:
    """What moved from one record, or the file of one, to another.

    `advance` hears of each case as it begins. Raises ValueError, in one line, for a file that is no record.
    """
    old, new = (x if isinstance(x, Record) else read_record(x) for x in (before, after))
    found = Comparison(old, new, paired(old, new))
    for one, names in found.asked():
        advance(one.key.replace("/", ", "))
        for name in names:
            found.compare(one, name)
    return found.drift()


def paired(before: Record, after: Record) -> Pairs:
    """Subjects of one name; or, where each record has but one subject, these two, whatever their names."""
    if len(before.subjects) == len(after.subjects) == 1:
        (old,), (new,) = before.subjects, after.subjects
        return {new if old == new else f"{old} → {new}": (old, new)}
    return {name: (name, name) for name in after.subjects if name in before.subjects}


@dataclass
class Comparison:
    """Two records, and what was found so far."""

    before: Record
    after: Record
    pairs: Pairs
    moves: list[Moved] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    sums: dict[tuple[str, str, str], Sums] = field(default_factory=lambda: defaultdict(Sums))
    """By subject, clause and dtype."""
    strays: dict[tuple[str, str, str, bool], dict[str, Stray]] = field(default_factory=lambda: defaultdict(dict))
    """By subject, dtype, record, and whether they are gradients: answers that lie outside the gate, by case."""

    def __post_init__(self) -> None:
        self.stand_ins = {name: self.after.subjects[new].stand_in(new) for name, (_, new) in self.pairs.items()}

    def asked(self) -> Iterator[tuple[Asked, list[str]]]:
        """All that can be compared, with the subjects that were asked it; the rest is noted as left out."""
        same: dict[str, tuple[Asked, list[str]]] = {}
        for name, (old, new) in self.pairs.items():
            digests = self.before.subjects[old].digests, self.after.subjects[new].digests
            today = {one.key: one for one in all_asked(self.stand_ins[name])}
            for key in {**digests[0], **digests[1]}:
                if why := _why_not([of.get(key) for of in digests], today.get(key)):
                    self.left.append(Left(name, key, why))
                else:
                    one = today[key]
                    same.setdefault(f"{key} {one.digest} {_claims(self.stand_ins[name])}", (one, []))[1].append(name)
        yield from sorted(same.values(), key=lambda found: found[0].key)

    def compare(self, one: Asked, name: str) -> None:
        """Compares a subject's answers to one case in one dtype."""
        old, new = self.pairs[name]
        errors = self.before.subjects[old].errors.get(one.key), self.after.subjects[new].errors.get(one.key)
        if errors[0] is not None:
            self.left.append(Left(name, one.key, "came to an error before" + (" and after" if errors[1] else "")))
        elif errors[1] is not None:
            self.moves.append(no_array(name, one.clause("output"), one.key, "output", f"came to an error: {errors[1]}"))
        elif not one.claimed(self.stand_ins[name]):
            self.left.append(Left(name, one.key, "has scores below those that are claimed"))
        else:
            self._compare(one, name, self.before.of(old, one.key), self.after.of(new, one.key))

    def _compare(self, one: Asked, name: str, before: Arrays, after: Arrays) -> None:
        draws, dtype = defaultdict[str, Draws](Draws), one.key.rpartition("/")[2]
        for array in sorted(before.keys() | after.keys()):
            if array not in before or array not in after:
                self.left.append(Left(name, one.key, f"has {array} only {'before' if array in before else 'after'}"))
            elif moves := self._moves(one, name, array, before[array], after[array]):
                self._count(one, name, array, moves)
                draws[one.clause(array)].add(moves)
                if moves.beyond.any() and isinstance(one, OfTrial):
                    self._keep(one.trial, name, array, moves, (before, after))
        for clause, of_case in draws.items():
            self.sums[name, clause, dtype].add(of_case)

    def _moves(self, one: Asked, name: str, array: str, old: Array, new: Array) -> Moves | None:
        """The moves of an array, beside its truth; None if nothing moved, or nothing can be said of it but in words."""
        clause, (case, _, dtype), note = one.clause(array), one.key.rpartition("/"), ""
        if old.shape == new.shape and not different(old, new).any():
            self.moves.append(Moved(name, clause, case, dtype, array, new.size))
            return None
        subject = self.stand_ins[name]
        truth = one.expected(subject).get(array)
        if old.shape != new.shape:
            note = f"shape {old.shape} became {new.shape}"
        elif truth is None or truth.value.shape != new.shape:
            note = f"moved, and has a shape or a name that the oracle has not: {new.shape}"
        if note or truth is None:
            self.moves.append(no_array(name, clause, one.key, array, note))
            return None
        return Moves(old, new, truth, one.kept(array, new.shape, subject), dtype)

    def _count(self, one: Asked, name: str, array: str, moves: Moves) -> None:
        case, _, dtype = one.key.rpartition("/")
        counts = int(moves.kept.sum()), int(moves.moved.sum()), int(moves.beyond.sum())
        self.moves.append(Moved(name, one.clause(array), case, dtype, array, *counts, moves.worst))

    def _keep(self, trial: Trial, name: str, array: str, moves: Moves, answers: tuple[Arrays, Arrays]) -> None:
        """Keeps answers outside the gate, to be explained: those after, or else those before."""
        gradients = array.startswith(GRADIENT)
        if gradients and trial.config.scoring.claim:
            return  # the gradients of additive scoring have no variants
        after = bool((moves.outside(moves.after) & moves.beyond).any())
        known = self.strays[name, trial.dtype, "after" if after else "before", gradients]
        stray = known.get(trial.name, Stray(trial, _of_kind(answers[after], gradients), frozenset()))
        known[trial.name] = replace(stray, outside=stray.outside | {array})

    def drift(self) -> Drift:
        """All that was found."""
        systematic = [found for key, sums in self.sums.items() for found in sums.alarms(*key)]
        only = [Left(name, "", "is only before") for name in self.before.subjects.keys() - self._names(0)]
        only += [Left(name, "", "is only after") for name in self.after.subjects.keys() - self._names(1)]
        changed = [*changed_releases(self.before.facts, self.after.facts), *self._changed_subjects()]
        return Drift([*self.pairs], changed, self.moves, systematic, self._causes(), sorted(only, key=str) + self.left)

    def _causes(self) -> list[str]:
        """What explains answers outside the gate, with all dtypes that it does so in.

        What is wrong with outputs is in gradients too, and is said once.
        """
        found: dict[tuple[str, str, str, str], list[str]] = {}
        for (name, dtype, when, gradients), strays in self.strays.items():
            if not gradients or (name, dtype, when, False) not in self.strays:
                for arrays, words in explanations(self.stand_ins[name], list(strays.values())):
                    found.setdefault((name, arrays, when, words), []).append(dtype)
        return [
            f"{name}: {arrays} {when}, in {', '.join(dtypes)}: as if {words}"
            for (name, arrays, when, words), dtypes in found.items()
        ]

    def _names(self, side: int) -> set[str]:
        return {names[side] for names in self.pairs.values()}

    def _changed_subjects(self) -> Iterator[str]:
        for name, (old, new) in self.pairs.items():
            before, after = self.before.subjects[old], self.after.subjects[new]
            yield from changes(before.settings, after.settings)
            yield from changes(before.claims, after.claims, f"{name} claims ")


def _why_not(digests: list[str | None], today: Asked | None) -> str:
    """Why answers cannot be compared; empty if they can."""
    before, after = digests
    if before is None or after is None:
        return "was asked only after" if before is None else "was asked only before"
    if before != after:
        return "was asked with other numbers"
    if today is None or today.digest != after:
        return "is asked with other numbers by this release of trihead: record both anew"
    return ""


def _of_kind(answers: Arrays, gradients: bool) -> Arrays:
    """The gradients among answers, or the others."""
    return {name: array for name, array in answers.items() if name.startswith(GRADIENT) == gradients}


def _claims(subject: Any) -> tuple[Any, ...]:
    """What decides how a subject's answers are compared."""
    return subject.attention_weights, subject.inputs, subject.lowest_score, subject.rows_without_key
