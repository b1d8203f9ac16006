"""The page of `trihead drift --html`: what moved between two records, in a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shared_tests.harness.clauses import CLAUSES
from shared_tests.studies.drift import Drift
from shared_tests.studies.page import installed, render


def drift_page(drift: Drift, facts: Mapping[str, str]) -> bytes:
    """The whole page; facts are of the machine on which the records were compared, as for `verdict_page`."""
    return render(
        "drift.html.j2",
        sections=list(_sections(drift)),
        drift=drift,
        lines=list(drift.lines()),
        facts=installed(facts),
        clauses=CLAUSES,
    )


def _sections(drift: Drift) -> Iterator[tuple[str, str]]:
    """The id and the heading of each section."""
    if drift.changed:
        yield "changed", "What is another"
    if any(drift.lines()):
        yield "notes", "What is more than noise, or was not compared"
    yield "table", "What moved"
    yield "versions", "Versions"
