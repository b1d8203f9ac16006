"""`trihead calibrate`: measured errors beside predicted ones."""

from __future__ import annotations

import time
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from shared_tests.commands.terminal import CacheOption, SubjectOption, console, programs_of, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.rounding import FORMATS, GATE
from shared_tests.studies import calibration
from shared_tests.studies import hunt as hunting


def calibrate(
    subject: SubjectOption = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Repeat for more. Default: float64 and float32.")] = None,
    hunt: Annotated[
        float | None, typer.Option(min=1, help="Instead, judge random right cases for so many seconds.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random cases.")] = 0,
    cache: CacheOption = True,
) -> None:
    """Measure errors beside the noise that is predicted for them, over many regimes: is the gate fair?"""
    if hunt is not None:
        _hunt([find(name) for name in subject or OURS], hunt, seed)
    dtypes = dtype or ["float64", "float32"]
    if unknown := set(dtypes) - FORMATS.keys():
        raise ValueError(f"--dtype: expected one of {', '.join(FORMATS)}, got {', '.join(unknown)}")
    subjects = [find(name, programs=programs_of(cache)) for name in subject or OURS]
    with progress("calibrate", sum(len(calibration.of_dtype(name)) for name in dtypes)) as (bar, task):
        rows = calibration.calibrate(subjects, dtypes, lambda what: bar.update(task, advance=1, description=what))
    table = Table("subject", "dtype", "quantity", "median", "worst", "in", "elements", box=None)
    for row in rows:
        numbers = f"{row.median:.2f}σ", f"{row.worst:.2f}σ", row.regime, f"{row.elements:,}"
        table.add_row(row.subject, row.dtype, row.quantity, *numbers)
    console.print(table)
    raise typer.Exit(0 if all(row.worst < GATE for row in rows) else 1)


def _hunt(subjects: list[Any], seconds: float, seed: int) -> NoReturn:
    start = time.monotonic()
    with progress("hunt", round(seconds)) as (bar, task):

        def advance(found: hunting.Hunt) -> None:
            bar.update(task, completed=time.monotonic() - start, description=f"{found.cases} cases")

        found = hunting.hunt(subjects, seconds, seed, advance)
    table = Table("subject", "dtype", "quantity", "arrays", "elements", "worst", "beyond", "known", box=None)
    for key, tally in sorted(found.tallies.items()):
        numbers = f"{tally.cases:,}", f"{tally.elements:,}", f"{tally.worst:.2f}σ"
        table.add_row(*key, *numbers, str(len(tally.beyond)), str(tally.known))
    console.print(table)
    for (name, dtype, quantity), tally in found.tallies.items():
        for line in tally.beyond:
            print(f"{name} {dtype} {quantity} {line}")
    print(f"{found.cases} cases from seed {seed}, {found.outside} of them outside the domain")
    raise typer.Exit(0 if found.holds else 1)
