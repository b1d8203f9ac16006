"""`trihead bench`: the three beside each framework's own layer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared_tests.commands.terminal import DeviceOption, check_writable, console, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.storage import write_bytes
from shared_tests.studies import bench as benchmark
from shared_tests.studies import figures
from shared_tests.studies.installation import machine, versions
from shared_tests.studies.plot import draw_sweep


def bench(
    subject: Annotated[list[str] | None, typer.Option(help="One of the three. Repeat for more. Default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds, of which a figure is the median.")] = 7,
    device: DeviceOption = None,
    sweep: Annotated[bool, typer.Option(help="Also lengths up to 16384, in time and memory.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all figures here, as JSON.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw time and memory against length here (.svg, .png).")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the results page here, as Markdown.")] = None,
) -> None:
    """Time the three beside each framework's own layer, and measure the memory that each adds."""
    for option, path in {"--json": json_file, "--plot": plot, "--page": page}.items():
        check_writable(option, path)
    names = subject or OURS
    if unknown := set(names) - set(OURS):
        raise ValueError(f"--subject: expected one of {', '.join(OURS)}, got {', '.join(unknown)}")
    if plot is not None:
        if plot.suffix not in (".svg", ".png"):
            raise ValueError(f"--plot: expected a file .svg or .png, got {plot}")
        figures.require()  # before anything is measured
    for name in names if device else ():
        find(name, device)  # refused before anything is measured
    jobs = benchmark.jobs(names, sweep, device)
    found: list[benchmark.Time | benchmark.Memory] = []
    failed: list[str] = []
    with progress("bench", len(jobs)) as (bar, task):
        for job in jobs:
            bar.update(task, description=str(job))
            try:
                found += job.run(rounds)
            except OSError as error:  # the figures of all others are still written
                failed.append(str(error))
            bar.update(task, advance=1)
    facts = machine() | {"device": device or "default"} | versions()  # no more: the page is published
    table = Table("subject", "shape", "step", "layer", "ms", "quartiles", "ratio", "share", box=None)
    for one in found:
        table.add_row(*one.cells())
    console.print(table)
    if json_file is not None:
        write_bytes(json_file, json.dumps(benchmark.as_json(found, facts), indent=1).encode())
    if page is not None:
        write_bytes(page, benchmark.as_markdown(found, facts).encode())
    if plot is not None:
        write_bytes(plot, draw_sweep(found, plot.suffix))
    for line in failed:
        print(f"trihead: {line}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)
