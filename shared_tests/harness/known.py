"""Known differences: what a framework's own kernels do against the contract, listed with the reason and a reproduction.

The list, `known_differences.toml`, is checked strictly: a failure that it names is excused, and
an entry that no longer fails is itself a failure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from shared_tests.harness.compare import Verdict, failure


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
    """One entry of the list. what: the end of the name of the quantity that differs, empty for all. dtype: or "any"."""

    subject: str
    clause: str
    dtype: str
    what: str
    reason: str
    reproduction: str

    def concerns(self, finding: Finding) -> bool:
        """Whether this finding is about the quantity of the entry."""
        ours, theirs = (self.subject, self.clause), (finding.subject, finding.clause)
        return ours == theirs and self.dtype in ("any", finding.dtype) and finding.verdict.what.endswith(self.what)


@cache
def known_differences() -> tuple[KnownDifference, ...]:
    """The entries of `known_differences.toml`."""
    text = (files("shared_tests") / "known_differences.toml").read_text()
    return tuple(KnownDifference(**entry) for entry in tomllib.loads(text)["difference"])


def excuse(findings: Sequence[Finding], known: Sequence[KnownDifference] | None = None) -> list[Finding]:
    """Turns failures that are known into excused ones, and entries that were asked about but hold into failures."""
    findings = list(findings)
    for entry in known_differences() if known is None else known:
        concerned = [i for i, finding in enumerate(findings) if entry.concerns(finding)]
        failed = [i for i in concerned if findings[i].verdict.failed]
        for i in failed:
            verdict = findings[i].verdict
            excused = replace(verdict, failed=0, worst=None, excused=verdict.failed, note="")
            findings[i] = replace(findings[i], verdict=excused)
        if concerned and not failed:
            words = f"known_differences.toml lists {entry.what}, which no longer differs: remove the entry"
            findings.append(Finding(entry.clause, entry.subject, "known differences", entry.dtype, failure(words)))
    return findings
