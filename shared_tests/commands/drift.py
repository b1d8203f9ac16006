"""`trihead drift`: what moved since a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared_tests.commands.record import ask
from shared_tests.commands.terminal import (
    AnswersOption,
    CacheOption,
    DeviceOption,
    SubjectOption,
    check_writable,
    console,
    names_of,
    progress,
)
from shared_tests.harness.clauses import CLAUSES
from shared_tests.storage import write_bytes
from shared_tests.studies.drift import Drift, Row
from shared_tests.studies.drift_page import drift_page
from shared_tests.studies.drifting import drift as compare
from shared_tests.studies.installation import machine, versions
from shared_tests.studies.page import templates
from shared_tests.studies.recording import read_record


def drift(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A file that trihead record wrote.")],
    after: Annotated[
        Path | None, typer.Argument(metavar="[AFTER]", help="Another. Left out: the same subjects are asked now.")
    ] = None,
    subject: SubjectOption = None,
    answers: AnswersOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the drift here, as JSON.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page, to pass on.")] = None,
    device: DeviceOption = None,
    cache: CacheOption = True,
) -> None:
    """Say what moved since a record, in sigma and in units in the last place.

    Exit 0 if nothing moved beyond the gate, 1 if something did, 2 on bad use.
    """
    for option, path in {"--json": json_file, "--html": html}.items():
        check_writable(option, path)
    if html is not None:
        templates()  # if jinja2 is missing, that is said before anything is asked
    named = names_of(subject, answers)
    if after is not None and (named or device):
        raise ValueError("drift: expected AFTER, or --subject, --answers and --device for what is asked now, got both")
    old = read_record(before)
    if after is not None:
        new = read_record(after)
    else:
        new = ask(named or [recorded.source for recorded in old.subjects.values()], device, cache)
    with progress("drift", max((len(x.digests) for x in new.subjects.values()), default=0)) as (bar, task):
        found = compare(old, new, lambda what: bar.update(task, advance=1, description=what))
    print_drift(found)
    if json_file is not None:
        write_bytes(json_file, json.dumps(found.as_json(), indent=1, allow_nan=False).encode())
    if html is not None:
        write_bytes(html, drift_page(found, machine() | versions()))
    raise typer.Exit(0 if found.holds else 1)


def print_drift(found: Drift) -> None:
    """What is another installation, the table, what is beyond the gate or systematic, and the verdict."""
    for line in found.changed:
        console.print(line, markup=False, highlight=False, soft_wrap=True, style="dim")
    if any(row.moved for row in found.rows):
        console.print(_table(found.rows))
    for line in found.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold]{found.verdict()}[/]", highlight=False, soft_wrap=True)


def _table(rows: list[Row]) -> Table:
    table = Table("clause", "", "subject", "moved", "furthest", "in the last place", "in", box=None)
    for row in rows:
        style = "bold red" if row.beyond else ""
        table.add_row(row.clause, CLAUSES[row.clause], row.subject, *row.cells(), style=style)
    return table
