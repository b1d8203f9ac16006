"""Findings that fail, gathered into one line for each distinct cause, what fails first and clearest on top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared_tests.harness.clauses import CLAUSES, RAISES
from shared_tests.harness.known import Finding

ORDER = (RAISES, "1.1", "7.1", "2.5", "2.2", "3.1", "3.2", "2.4", "2.1", "1.4", "3.4", "7.2")
"""Worth reading first: a clause after those that it follows from. All others come behind, in the table's order."""
NAMES = 4
"""So many names of quantities are listed."""


@dataclass(frozen=True)
class Cause:
    """Findings of one subject that have one cause, in the order of the cases."""

    findings: Sequence[Finding]

    @property
    def first(self) -> Finding:
        return self.findings[0]

    def __str__(self) -> str:
        finding, cases = self.first, list(dict.fromkeys(f.case for f in self.findings))
        if finding.clause == RAISES:
            where = f" ({finding.verdict.what})" if finding.verdict.what else ""
            return f"{_count(len(cases), 'case')}: {finding.verdict.note}{where}; first {_trial(finding)}"
        names = list(dict.fromkeys(f.verdict.what for f in self.findings))
        names = [] if "" in names else names  # then the clause itself says of what
        named = f" ({', '.join(names[:NAMES])}{', …' if len(names) > NAMES else ''})" if names else ""
        trials = len({(f.case, f.dtype) for f in self.findings}) - 1
        more = f" (+{trials:,} more)" if trials else ""
        return f"{finding.clause} {CLAUSES[finding.clause]}{named}: {_trial(finding)}: {finding.verdict.note}{more}"


def causes(findings: Sequence[Finding]) -> list[Cause]:
    """The causes of these findings, of which all fail."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(tuple(_key(finding)), []).append(finding)
    places = {clause: place for place, clause in enumerate(dict.fromkeys([*ORDER, *CLAUSES]))}
    return sorted(map(Cause, groups.values()), key=lambda cause: places[cause.first.clause])


def _key(finding: Finding) -> Iterator[str]:
    """What findings of one cause have in common."""
    yield from (finding.subject, finding.clause)
    if finding.clause == RAISES:  # the same line may say different things, of different sizes
        yield from (finding.verdict.what or finding.verdict.note, finding.verdict.note.split(":")[0])
    elif finding.clause == "1.1":  # "expected shape" or "expected dtype"
        yield from (finding.verdict.what, " ".join(finding.verdict.note.split()[:2]))


def _trial(finding: Finding) -> str:
    return f"{finding.case}, {finding.dtype}" if finding.dtype else finding.case


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
