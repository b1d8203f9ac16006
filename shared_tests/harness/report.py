"""Reports: findings gathered into a table of clauses and subjects, their causes, one verdict, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, reduce
from math import inf
from operator import add
from typing import Any

from shared_tests.cases.case import Case
from shared_tests.cases.table import CASES, REAL
from shared_tests.harness.asking import Answer
from shared_tests.harness.causes import causes
from shared_tests.harness.clauses import ASKED_OF_RIGHT_OUTPUTS, CAPABILITIES, CLAUSES, RAISES
from shared_tests.harness.compare import BINS, Verdict
from shared_tests.harness.known import Finding
from shared_tests.harness.rounding import GATE

Answers = dict[tuple[str, Case], dict[str, Answer]]
"""By what was asked, and subject: the answers in float64."""


@dataclass(frozen=True)
class About:
    """What a report says of a subject beside what was found: where it ran, what it claims less than all, in words,
    the methods that it has, and by which option a command finds it again."""

    device: str = ""
    claims: tuple[str, ...] = ()
    offers: frozenset[str] = frozenset(CAPABILITIES.values())
    option: str = ""


class Holds(int):
    """Whether a report holds: a bool, but that it shows as the verdict, in the message of an assertion too."""

    words: str

    def __new__(cls, holds: bool, words: str) -> Holds:
        made = super().__new__(cls, holds)
        made.words = words
        return made

    def __repr__(self) -> str:
        return self.words


@dataclass(frozen=True, repr=False)
class Report:
    """All findings on some subjects. True in a condition if it holds."""

    subjects: Sequence[str]
    findings: Sequence[Finding]
    about: Mapping[str, About] = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)

    @cached_property
    def cells(self) -> dict[tuple[str, str], Verdict | None]:
        """Every clause and subject."""
        return {(clause, subject): self.cell(clause, subject) for clause in CLAUSES for subject in self.subjects}

    def cell(self, clause: str, subject: str) -> Verdict | None:
        """What a clause says of a subject over all cases; None if there was nothing to compare."""
        verdicts = [f.verdict for f in self.findings if (f.clause, f.subject) == (clause, subject)]
        return reduce(add, verdicts) if any(verdict.compared for verdict in verdicts) else None

    def missing(self, clause: str, subject: str) -> str:
        """Why there was nothing to compare."""
        if CAPABILITIES.get(clause, "") not in {"", *self._about(subject).offers}:
            return "not offered"
        before = (RAISES, "1.1", "2.1") if clause in ASKED_OF_RIGHT_OUTPUTS else (RAISES, "1.1")
        stopped = any(f.subject == subject and f.clause in before for f in self.failures)
        return "not reached" if stopped else "not claimed"

    @property
    def compared(self) -> int:
        """How many comparisons were made."""
        return sum(cell.compared for cell in self.cells.values() if cell)

    @cached_property
    def failures(self) -> list[Finding]:
        """The findings that do not hold, errors among them."""
        return [finding for finding in self.findings if finding.verdict.failed]

    @property
    def failing(self) -> list[str]:
        """The subjects of which something does not hold."""
        return [name for name in self.subjects if any(f.subject == name for f in self.failures)]

    @property
    def holds(self) -> Holds:
        """Whether every subject was compared, raised nothing, and every clause it was asked holds."""
        asked = all(self.cell("2.1", subject) for subject in self.subjects)
        holds = bool(self.subjects) and asked and not self.failures
        return Holds(holds, " | ".join([self.verdict(holds), *([] if holds else self.next_steps())]))

    def __bool__(self) -> bool:
        return bool(self.holds)

    def verdict(self, holds: bool | None = None) -> str:
        """The report in one line."""
        names, cases = self._names() or "no subject", len({f.case for f in self.findings} & {*CASES, *REAL})
        if self.holds if holds is None else holds:
            counts = f"{self.compared:,} comparisons over {cases} cases, none off by more than {GATE:g}σ"
            return f"HOLDS{self._within()}: {names}: {counts}"
        raised = {finding.case for finding in self.failures if finding.clause == RAISES}
        broken = [clause for clause in CLAUSES if any(f.clause == clause for f in self.failures)]
        what = [f"errors in {len(raised)} case{'s' * (len(raised) > 1)}"] if raised else []
        what += [f"clauses {', '.join(broken)}"] if broken else []
        return f"FAILS: {names}: {'; '.join(what) or 'nothing was compared'}"

    def causes(self) -> list[str]:
        """A line for each distinct cause of failure, what fails first and clearest on top."""
        several = len(self.subjects) > 1
        return [f"{cause.first.subject}: {cause}" if several else str(cause) for cause in causes(self.failures)]

    def next_steps(self) -> list[str]:
        """What to run next on the subjects that fail, one at a time."""
        found = [self._about(name).option or f"--subject {name}" for name in self.failing]
        return [f"next: trihead diagnose {option}" for option in found[:1]]

    def __str__(self) -> str:
        return "\n".join([*self.causes(), self.verdict(), *([] if self.holds else self.next_steps())])

    def __repr__(self) -> str:
        return f"Report({' | '.join(self.causes()) or self.verdict()})"

    def _about(self, subject: str) -> About:
        return self.about.get(subject, About())

    def _within(self) -> str:
        """What the subjects claim less than all, in parentheses."""
        claims = {name: "; ".join(self._about(name).claims) for name in self.subjects}
        said = [words if len(claims) == 1 else f"{name}: {words}" for name, words in claims.items() if words]
        return f" within its claims ({'; '.join(said)})" if said else ""

    def _names(self) -> str:
        """The subjects, and where they ran."""
        devices = {self._about(subject).device for subject in self.subjects}
        if len(devices) == 1:
            return ", ".join(self.subjects) + "".join(f" on {device}" for device in devices if device)
        where = {name: f"{name} on {self._about(name).device}".removesuffix(" on ") for name in self.subjects}
        return ", ".join(where.values())

    def as_json(self) -> dict[str, Any]:
        """The verdict, every cell, and every finding that does not hold."""
        return {
            "holds": bool(self.holds),
            "verdict": self.verdict(),
            "gate_sigma": GATE,
            "histogram_edges_sigma": [GATE * i / BINS for i in range(BINS + 1)],
            "subjects": list(self.subjects),
            "devices": {name: about.device for name, about in self.about.items() if about.device},
            "claims": {name: list(about.claims) for name, about in self.about.items()},
            "clauses": [
                {
                    "clause": clause,
                    "title": title,
                    "subjects": {s: _json(self.cells[clause, s]) for s in self.subjects},
                    "not asked": {s: self.missing(clause, s) for s in self.subjects if self.cells[clause, s] is None},
                }
                for clause, title in CLAUSES.items()
            ],
            "causes": self.causes(),
            "failures": [asdict(f) | {"verdict": _json(replace(f.verdict, histogram=()))} for f in self.failures],
        }


def _json(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict; a worst deviation that is infinite is null, for JSON has no such number."""
    if verdict is None:
        return None
    return asdict(verdict) | {"holds": verdict.holds, "worst": None if verdict.worst == inf else verdict.worst}


def in_words(deviation: float) -> str:
    """A deviation, in sigma: its first digits where it is large."""
    return f"{deviation:.2f}σ" if deviation < 1000 else f"{deviation:.2g}σ"


def describe(cell: Verdict) -> str:
    """A cell in words: the worst deviation, or how many differ, and how many were compared."""
    if cell.worst is not None:
        words = in_words(cell.worst)
    else:
        words = f"{cell.failed:,} differ" if cell.failed else "exact"
    excused = f", {cell.excused:,} excused" if cell.excused else ""
    return f"{'' if cell.holds else '✗ '}{words}{excused} of {cell.compared:,}"
