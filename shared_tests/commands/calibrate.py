"""`trihead calibrate`: measured errors beside predicted ones."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from shared_tests.commands.terminal import CacheOption, SubjectOption, console, programs_of, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.rounding import FORMATS, GATE
from shared_tests.studies import calibration


def calibrate(
    subject: SubjectOption = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Repeat for more. Default: float64 and float32.")] = None,
    cache: CacheOption = True,
) -> None:
    """Measure errors beside the noise that is predicted for them, over many regimes: is the gate fair?"""
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
