"""`trihead verify`: the parity table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shared_tests.cases.table import CASES
from shared_tests.commands.terminal import (
    CacheOption,
    DeviceOption,
    SubjectOption,
    check_writable,
    console,
    programs_of,
    progress,
)
from shared_tests.frameworks import OURS
from shared_tests.harness.apart import judge_apart
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.compare import Verdict
from shared_tests.harness.find import find
from shared_tests.harness.judge import TRAININGS, judge
from shared_tests.harness.report import Report, describe
from shared_tests.storage import write_bytes


def verify(
    subject: SubjectOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here, as JSON.")] = None,
    device: DeviceOption = None,
    cache: CacheOption = True,
) -> None:
    """Judge subjects on every case and print the parity table; exit 0 if all holds, 1 if not, 2 on bad use."""
    check_writable("--json", json_file)
    names, programs = subject or OURS, programs_of(cache)
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    trials = sum(len(case.dtypes) for case in CASES.values()) + len(TRAININGS)
    with progress("verify", trials * len(names)) as (bar, task):

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=what)

        if len(names) == 1:
            report = judge(find(names[0], device, programs), advance=advance)
        else:
            report = judge_apart(names, device, programs, advance)
    if len(set(report.subjects)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(report.subjects)}")
    _print_report(report)
    if json_file is not None:
        write_bytes(json_file, json.dumps(report.as_json(), indent=1, allow_nan=False).encode())
    raise typer.Exit(0 if report.holds else 1)


def _print_report(report: Report) -> None:
    table = Table("clause", "", *report.subjects, box=None)
    for clause, title in CLAUSES.items():
        cells = [report.cell(clause, subject) for subject in report.subjects]
        table.add_row(clause, title, *map(_cell, cells))
    console.print(table)
    for finding in report.failures[:20]:
        console.print(
            f"{finding.clause} {finding.subject}: {finding.case} {finding.dtype}: {finding.verdict.note}", markup=False
        )
    console.print(f"[bold]{report.verdict()}[/]", highlight=False)


def _cell(cell: Verdict | None) -> Text:
    style = "dim" if cell is None else "" if cell.holds else "bold red"
    return Text(describe(cell), style)
