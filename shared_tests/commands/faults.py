"""`trihead faults`: every fault of the catalogue planted, caught and named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared_tests.commands.terminal import check_writable, console, progress
from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.storage import write_bytes
from shared_tests.studies import planting


def faults(
    only: Annotated[list[str] | None, typer.Option("--id", help="Plant this fault alone. Repeat for more.")] = None,
    pairs: Annotated[int, typer.Option(min=0, help="Also diagnose so many pairs of faults, drawn at random.")] = 0,
    page: Annotated[Path | None, typer.Option(help="Also write the page of faults here, as Markdown.")] = None,
) -> None:
    """Plant every fault in a plain layer: which clause catches it, does diagnosis name it; exit 1 if one is missed."""
    check_writable("--page", page)
    ids = {fault.id for fault in CATALOGUE}
    for name in only or ():
        if name not in ids:
            raise ValueError(f"--id: expected a fault of the catalogue (docs/failures.md), got {name}")
    chosen = [fault for fault in CATALOGUE if not only or fault.id in only]
    found, right = [], 0
    with progress("faults", len(chosen) + pairs) as (bar, task):
        for fault in chosen:
            bar.update(task, advance=1, description=str(fault))
            found.append(planting.plant(fault))
        for pair in planting.pairs(pairs):
            bar.update(task, advance=1, description=" and ".join(map(str, pair)))
            right += planting.both_named(pair)
    table = Table("fault", "clauses that fail", "with attention weights", "from outputs alone", box=None)
    for one in found:
        table.add_row(*one.cells)
    console.print(table, markup=False, highlight=False)
    for line in planting.totals(found, right, pairs):
        console.print(line, markup=False, highlight=False)
    if page is not None:
        write_bytes(page, planting.page(found, right, pairs).encode())
    raise typer.Exit(0 if all(one.clauses for one in found) else 1)
