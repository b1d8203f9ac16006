"""Reports: findings gathered into a table of clauses and subjects, one verdict, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from math import inf
from operator import add
from typing import Any

from shared_tests.cases.table import CASES
from shared_tests.harness.asking import Answer
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.compare import Verdict
from shared_tests.harness.known import Finding
from shared_tests.harness.rounding import GATE


@dataclass(frozen=True)
class Report:
    """All findings on some subjects."""

    subjects: Sequence[str]
    findings: Sequence[Finding]
    devices: Mapping[str, str] = field(default_factory=dict)
    """Where each subject ran, of those that can tell."""
    answers: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict, repr=False)
    """By case and subject: what it answered in float64."""

    def cell(self, clause: str, subject: str) -> Verdict | None:
        """What a clause says of a subject over all cases; None if there was nothing to compare."""
        verdicts = [f.verdict for f in self.findings if (f.clause, f.subject) == (clause, subject)]
        return reduce(add, verdicts) if any(verdict.compared for verdict in verdicts) else None

    @property
    def cells(self) -> dict[tuple[str, str], Verdict | None]:
        """Every clause and subject."""
        return {(clause, subject): self.cell(clause, subject) for clause in CLAUSES for subject in self.subjects}

    @property
    def compared(self) -> int:
        """How many comparisons were made."""
        return sum(cell.compared for cell in self.cells.values() if cell)

    @property
    def failures(self) -> list[Finding]:
        """The findings that do not hold."""
        return [finding for finding in self.findings if finding.verdict.failed]

    @property
    def holds(self) -> bool:
        """Whether every subject was compared, and every clause it was asked holds."""
        asked = all(self.cell("2.1", subject) for subject in self.subjects)
        return bool(self.subjects) and asked and all(cell is None or cell.holds for cell in self.cells.values())

    def verdict(self) -> str:
        """The report in one line."""
        names, cases = self._names() or "no subject", len({f.case for f in self.findings} & set(CASES))
        if self.holds:
            return f"HOLDS: {names}: {self.compared:,} comparisons over {cases} cases, none off by more than {GATE:g}σ"
        broken = [
            clause for clause in CLAUSES if any(c and not c.holds for (k, _), c in self.cells.items() if k == clause)
        ]
        what = f"clauses {', '.join(broken)}" if broken else "nothing was compared"
        return f"FAILS: {names}: {what}"

    def _names(self) -> str:
        """The subjects, and where they ran."""
        devices = {self.devices.get(subject, "") for subject in self.subjects}
        if len(devices) == 1:
            return ", ".join(self.subjects) + "".join(f" on {device}" for device in devices if device)
        where = {subject: f" on {device}" for subject, device in self.devices.items()}
        return ", ".join(f"{subject}{where.get(subject, '')}" for subject in self.subjects)

    def as_json(self) -> dict[str, Any]:
        """The verdict, every cell, and every finding that does not hold."""
        return {
            "holds": self.holds,
            "gate_sigma": GATE,
            "subjects": list(self.subjects),
            "devices": dict(self.devices),
            "clauses": [
                {
                    "clause": clause,
                    "title": title,
                    "subjects": {s: _json(self.cell(clause, s)) for s in self.subjects},
                }
                for clause, title in CLAUSES.items()
            ],
            "failures": [asdict(finding) | {"verdict": _json(finding.verdict)} for finding in self.failures],
        }


def _json(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict; a worst deviation that is infinite is null, for JSON has no such number."""
    if verdict is None:
        return None
    return asdict(verdict) | {"holds": verdict.holds, "worst": None if verdict.worst == inf else verdict.worst}


def describe(cell: Verdict | None) -> str:
    """A cell in words: the worst deviation, or how many differ, and how many were compared."""
    if cell is None:
        return "not offered"
    if cell.worst is not None:
        words = f"{cell.worst:.2f}σ"
    else:
        words = f"{cell.failed:,} differ" if cell.failed else "exact"
    excused = f", {cell.excused:,} excused" if cell.excused else ""
    return f"{'' if cell.holds else '✗ '}{words}{excused} of {cell.compared:,}"
