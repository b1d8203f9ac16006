"""Known differences: what a framework's own kernels do against the contract, listed with the reason and a reproduction.

The list, `known_differences.toml`, is checked strictly: a failure that it names is excused, and
an entry that no longer fails is itself a failure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from shared_tests.harness.clauses import CLAUSES, RAISES
from shared_tests.harness.compare import Verdict, failure
from shared_tests.releases import as_range, is_within


@dataclass(frozen=True)
class Finding:
    """What one clause says of one subject on one case in one dtype."""

    clause: str
    subject: str
    case: str
    dtype: str
    verdict: Verdict


@dataclass(frozen=True)
class KnownDifference:
    """One entry of a list: `what` is the end of the name of the quantity that differs.

    "any", or nothing in `what`, is all there are; `reproduction` is needed in our own list alone. `releases`, as in
    "jax>=0.12", is where the entry counts, all of them if it is left out.
    """

    clause: str
    reason: str
    subject: str = "any"
    dtype: str = "any"
    case: str = "any"
    what: str = ""
    reproduction: str = ""
    releases: str = ""

    @property
    def counts(self) -> bool:
        """Whether what is installed is within the entry's range of releases."""
        return not self.releases or is_within(self.releases)

    def concerns(self, finding: Finding) -> bool:
        """Whether this finding is about the quantity of the entry: of its clause, or of that within clause 10.2."""
        ours = {"subject": self.subject, "dtype": self.dtype, "case": self.case}
        same = all(wanted in ("any", getattr(finding, name)) for name, wanted in ours.items())
        same = same and (finding.clause == self.clause or finding.verdict.what.startswith(f"{self.clause} "))
        return same and finding.verdict.what.endswith(self.what) and self.counts

    def __str__(self) -> str:
        names = {"case": self.case, "dtype": self.dtype, "what": self.what or "any"}
        parts = [self.clause, *(f"{name} {value}" for name, value in names.items() if value != "any"), self.releases]
        return ", ".join(part for part in parts if part)


@cache
def known_differences() -> tuple[KnownDifference, ...]:
    """The entries of `known_differences.toml`."""
    text = (files("shared_tests") / "known_differences.toml").read_text()
    return tuple(KnownDifference(**entry) for entry in tomllib.loads(text)["difference"])


def read_known(path: Path) -> list[KnownDifference]:
    """A list of a port's own, in TOML. Raises ValueError, in one line, if it is none."""
    try:
        entries = tomllib.loads(path.read_text())["difference"]
        known = [KnownDifference(**entry) for entry in entries]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected entries [[difference]] with clause and reason, got {error}") from None
    for entry in known:
        texts = [getattr(entry, field.name) for field in fields(entry)]
        if not all(isinstance(text, str) for text in texts) or not entry.reason:
            raise ValueError(f"{path}: expected texts, and a reason, got {entry}")
        if entry.clause not in {*CLAUSES, RAISES}:
            raise ValueError(f"{path}: expected a clause of the contract, or {RAISES}, got {entry.clause}")
        if entry.releases:
            _check_range(path, entry.releases)
    return known


def _check_range(path: Path, releases: str) -> None:
    try:
        as_range(releases)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def excuse(
    findings: Sequence[Finding], known: Sequence[KnownDifference] | None = None, listed: str = "known_differences.toml"
) -> list[Finding]:
    """Turns failures that are known into excused ones, and entries that were asked about but hold into failures.

    known: our own list if None. An entry of another, `listed` by name, must also concern something. An entry whose
    releases are not installed is left aside.
    """
    findings = list(findings)
    for entry in known_differences() if known is None else known:
        concerned = [i for i, finding in enumerate(findings) if entry.concerns(finding)]
        failed = [i for i in concerned if findings[i].verdict.failed]
        for i in failed:
            verdict = findings[i].verdict
            excused = replace(verdict, failed=0, worst=None, excused=verdict.failed, note="")
            findings[i] = replace(findings[i], verdict=excused)
        if not failed and entry.counts and (concerned or listed != "known_differences.toml"):
            or_narrow = ", or narrow its releases" if entry.releases else ""
            words = f"{listed} lists {entry}, which no longer differs: remove the entry{or_narrow}"
            subject = findings[0].subject if entry.subject == "any" and findings else entry.subject
            findings.append(Finding(entry.clause, subject, "known differences", entry.dtype, failure(words)))
    return findings
