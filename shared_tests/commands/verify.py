"""`trihead verify`: the parity table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from shared_tests.cases.table import CASES, REAL
from shared_tests.commands.terminal import (
    AnswersOption,
    CacheOption,
    DeviceOption,
    SubjectOption,
    check_writable,
    console,
    names_of,
    programs_of,
    progress,
)
from shared_tests.faults.diagnosis import STEPS, diagnose
from shared_tests.faults.words import as_attributes
from shared_tests.frameworks import OURS
from shared_tests.harness.apart import judge_apart
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.find import find
from shared_tests.harness.judge import TRAININGS, judge
from shared_tests.harness.known import read_known
from shared_tests.harness.report import Report, describe
from shared_tests.storage import write_bytes
from shared_tests.studies.installation import machine, versions
from shared_tests.studies.page import templates
from shared_tests.studies.verdict_page import Diagnosed, verdict_page


def verify(
    subject: SubjectOption = None,
    answers: AnswersOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here, as JSON.")] = None,
    known: Annotated[
        Path | None, typer.Option("--known", help="A TOML file of differences that are known, checked strictly.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page: table, figures, and of what fails the diagnosis.")
    ] = None,
    device: DeviceOption = None,
    cache: CacheOption = True,
) -> None:
    """Judge subjects on every case and print the parity table; exit 0 if all holds, 1 if not, 2 on bad use."""
    for option, path in {"--json": json_file, "--html": html}.items():
        check_writable(option, path)
    if html is not None:
        templates()  # if jinja2 is missing, that is said before the long run
    names, programs = names_of(subject, answers) or OURS, programs_of(cache)
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    entries = [] if known is None else read_known(known)
    report = _judged(names, device, programs, known)
    if len(set(report.subjects)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(report.subjects)}")
    if strangers := {entry.subject for entry in entries} - {"any", *report.subjects}:
        raise ValueError(f"{known}: expected subjects of {', '.join(report.subjects)}, got {', '.join(strangers)}")
    print_report(report)
    if json_file is not None:
        written = report.as_json() | {"facts": machine() | versions()}
        write_bytes(json_file, json.dumps(written, indent=1, allow_nan=False).encode())
    if html is not None:
        failing = [name for name, judged in zip(names, report.subjects, strict=True) if judged in report.failing]
        write_bytes(html, verdict_page(report, _diagnosed(failing, device, programs), machine() | versions()))
    raise typer.Exit(0 if report.holds else 1)


def _judged(names: Sequence[str], device: str | None, programs: Path | None, known: Path | None) -> Report:
    trials = sum(len(case.dtypes) for case in (CASES | REAL).values()) + len(TRAININGS)
    with progress("verify", trials * len(names)) as (bar, task):

        def advance(what: str) -> None:
            bar.update(task, advance=1, description=what)

        if len(names) == 1:
            return judge(find(names[0], device, programs), known=known, advance=advance)
        return judge_apart(names, device, programs, advance, known)


def _diagnosed(failing: Sequence[str], device: str | None, programs: Path | None) -> list[Diagnosed]:
    """Of each subject that fails, by its name for `find`: the diagnosis, and the attributes to paste."""
    found: list[Diagnosed] = []
    with progress("diagnose", STEPS * len(failing)) as (bar, task):
        for name in failing:
            subject = find(name, device, programs)
            if 3 % subject.heads_multiple_of:
                continue  # nothing that it could be asked
            diagnosis = diagnose(subject, lambda what: bar.update(task, advance=1, description=what))
            found.append((diagnosis, as_attributes(diagnosis.claims, subject)))
    return found


def print_report(report: Report) -> None:
    """What fails, the table, the verdict, and what to run next."""
    for line in report.causes():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(_table(report))
    absent = ", ".join(clause for clause in CLAUSES if _is_absent(report, clause))
    if absent and len(report.subjects) == 1:
        console.print(f"not offered: {absent}", style="dim", highlight=False)
    console.print(f"[bold]{report.verdict()}[/]", highlight=False, soft_wrap=True)
    for line in () if report.holds else report.next_steps():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table("clause", "", *report.subjects, box=None)
    for clause, title in CLAUSES.items():
        if len(report.subjects) > 1 or not _is_absent(report, clause):
            table.add_row(clause, title, *(_cell(report, clause, subject) for subject in report.subjects))
    return table


def _is_absent(report: Report, clause: str) -> bool:
    """Whether the only subject has not what the clause asks."""
    return report.cells[clause, report.subjects[0]] is None and report.missing(clause, report.subjects[0]) == (
        "not offered"
    )


def _cell(report: Report, clause: str, subject: str) -> Text:
    cell = report.cells[clause, subject]
    if cell is None:
        return Text(report.missing(clause, subject), "dim")
    return Text(describe(cell), "" if cell.holds else "bold red")
