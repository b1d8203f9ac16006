"""The page of `trihead verify --html`: what a report says, drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shared_tests.faults import words
from shared_tests.faults.words import Diagnosis
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.report import Report, describe, in_words
from shared_tests.studies.attention_maps import heatmaps
from shared_tests.studies.histograms import histograms
from shared_tests.studies.page import installed, render

Diagnosed = tuple[Diagnosis, Sequence[str]]
"""What was found out about a subject that fails, and the attributes to paste into its class."""


def verdict_page(report: Report, diagnoses: Sequence[Diagnosed], facts: Mapping[str, str]) -> bytes:
    """The whole page; facts are of the machine, by name, among them the date, the processor, and releases."""
    return render(
        "verify.html.j2",
        sections=list(_sections(report, diagnoses)),
        report=report,
        figures=_figures(report),
        diagnoses=diagnoses,
        facts=installed(facts),
        clauses=CLAUSES,
        describe=describe,
        words=words,
        histograms=histograms(report),
        heatmaps=heatmaps(report),
    )


def _figures(report: Report) -> dict[str, str]:
    """What stands on top, by name."""
    cells = {of: cell for of, cell in report.cells.items() if cell is not None}
    worst = max((cell.worst for cell in cells.values() if cell.worst is not None), default=0.0)
    excused = any(cell.excused and cell.histogram for cell in cells.values())
    broken = {clause for (clause, _), cell in cells.items() if not cell.holds}
    return {
        "comparisons": f"{report.compared:,}",
        "largest deviation" + ", excused aside" * excused: in_words(worst),
        "clauses that fail": f"{len(broken)} of {len({clause for clause, _ in cells})}",
    }


def _sections(report: Report, diagnoses: Sequence[Diagnosed]) -> Iterator[tuple[str, str]]:
    """The id and the heading of each section."""
    if not report.holds:
        yield "causes", "What fails"
    if diagnoses:
        yield "diagnosis", "Diagnosis"
    yield "table", "The parity table"
    yield "noise", "Errors, in σ"
    yield "weights", "Attention weights"
    yield "versions", "Versions"
