"""The command `trihead`; `python -m shared_tests` is the same."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from shared_tests.harness import bench as benchmark
from shared_tests.harness import doctor as examination
from shared_tests.harness.calibrate import calibrate as measure
from shared_tests.harness.calibrate import of_dtype
from shared_tests.harness.case import CASES
from shared_tests.harness.compare import Verdict
from shared_tests.harness.judge import CLAUSES, TRAININGS, judge, judge_all
from shared_tests.harness.report import Report, describe
from shared_tests.harness.rounding import FORMATS, GATE
from shared_tests.harness.storage import write_bytes
from shared_tests.harness.subject import Subject, find

OURS = ["torch_impl", "jax_impl", "tf_impl"]
WIDTH = None if sys.stdout.isatty() else 120
console = Console(width=WIDTH)
progress_console = Console(stderr=True)
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback()
def trihead() -> None:
    """Multi-head attention in PyTorch, JAX and TensorFlow, and one judge of whether they are the same."""


@app.command(epilog="Example: trihead verify --subject my_port.py:MyPort --json verdict.json")
def verify(
    subject: Annotated[
        list[str] | None,
        typer.Option(help="A name from shared_tests/subjects, or FILE.py:Class. Repeat for more. Default: the three."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here, as JSON.")] = None,
) -> None:
    """Judge subjects on every case and print the parity table; exit 0 if all holds, 1 if not, 2 on bad use."""
    _check_writable("--json", json_file)
    subjects = [_find(name) for name in subject or OURS]
    names = [s.name for s in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    trials = sum(len(case.dtypes) for case in CASES.values()) + len(TRAININGS)
    with _progress() as progress:
        task = progress.add_task("verify", total=trials)

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        report = Report(names, judge_all(subjects, advance))
    _print_report(report)
    if json_file is not None:
        write_bytes(json_file, json.dumps(report.as_json(), indent=1, allow_nan=False).encode())
    raise typer.Exit(0 if report.holds else 1)


@app.command(epilog="Example: trihead calibrate --dtype float32")
def calibrate(
    subject: Annotated[list[str] | None, typer.Option(help="As for verify.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Repeat for more. Default: float64 and float32.")] = None,
) -> None:
    """Measure errors beside the noise that is predicted for them, over many regimes: is the gate fair?"""
    dtypes = dtype or ["float64", "float32"]
    if unknown := set(dtypes) - FORMATS.keys():
        raise ValueError(f"--dtype: expected one of {', '.join(FORMATS)}, got {', '.join(unknown)}")
    table = Table("subject", "dtype", "quantity", "median", "worst", "in", "elements", box=None)
    with _progress() as progress:
        task = progress.add_task("calibrate", total=sum(len(of_dtype(name)) for name in dtypes))

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        rows = measure([_find(name) for name in subject or OURS], dtypes, advance)
    for row in rows:
        numbers = f"{row.median:.2f}σ", f"{row.worst:.2f}σ", row.regime, f"{row.elements:,}"
        table.add_row(row.subject, row.dtype, row.quantity, *numbers)
    console.print(table)
    raise typer.Exit(0 if all(row.worst < GATE for row in rows) else 1)


@app.command(epilog="Example: trihead doctor")
def doctor() -> None:
    """Versions, devices and settings that move numbers, and the installed ones of the three on one case."""
    facts, installed = examination.installation(), []
    for name in OURS:
        try:
            subject = find(name)
        except ImportError as error:
            facts[name] = f"not installed: {error}"
        else:
            installed.append(subject)
            facts |= examination.settings(subject)
    for fact, value in facts.items():
        console.print(f"{fact:28} {value}", highlight=False, markup=False)
    cases = {name: CASES[name] for name in ("book", "zero lengths")}
    report = Report([s.name for s in installed], judge(installed, cases))
    console.print(f"[bold]{report.verdict()}[/]", highlight=False)
    raise typer.Exit(0 if report.holds else 1)


@app.command(epilog="Example: trihead bench --subject jax_impl --plot bench.svg")
def bench(
    subject: Annotated[list[str] | None, typer.Option(help="One of the three. Repeat for more. Default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds, of which a figure is the median.")] = 7,
    sweep: Annotated[bool, typer.Option(help="Also lengths up to 16384, in time and memory.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all figures here, as JSON.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw time and memory against length here (.svg, .png).")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the results page here, as Markdown.")] = None,
) -> None:
    """Time the three beside each framework's own layer, and measure the memory that each adds."""
    for option, path in {"--json": json_file, "--plot": plot, "--page": page}.items():
        _check_writable(option, path)
    names = subject or OURS
    if unknown := set(names) - set(OURS):
        raise ValueError(f"--subject: expected one of {', '.join(OURS)}, got {', '.join(unknown)}")
    if plot is not None:
        if plot.suffix not in (".svg", ".png"):
            raise ValueError(f"--plot: expected a file .svg or .png, got {plot}")
        from shared_tests.plot import draw_sweep  # matplotlib is an extra
    jobs = benchmark.jobs(names, sweep)
    found: list[benchmark.Time | benchmark.Memory] = []
    failed: list[str] = []
    with _progress() as progress:
        task = progress.add_task("bench", total=len(jobs))
        for job in jobs:
            progress.update(task, description=str(job))
            try:
                found += job.run(rounds)
            except OSError as error:  # costs no other its figures
                failed.append(str(error))
            progress.update(task, advance=1)
    facts = benchmark.machine() | examination.versions()  # no more: the page is published
    table = Table("subject", "shape", "step", "layer", "ms", "quartiles", "ratio", "share", box=None)
    for one in found:
        table.add_row(*one.cells())
    console.print(table)
    if json_file is not None:
        write_bytes(json_file, json.dumps(benchmark.as_json(found, facts), indent=1).encode())
    if page is not None:
        write_bytes(page, benchmark.as_markdown(found, facts).encode())
    if plot is not None:
        write_bytes(plot, draw_sweep(found, plot.suffix.removeprefix(".")))
    for line in failed:
        print(f"trihead: {line}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def main() -> None:
    """Runs the command; a refusal is one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a sigma is not in every encoding
    try:
        app(prog_name="trihead")
    except (ValueError, ImportError, OSError) as error:
        print(f"trihead: {error}", file=sys.stderr)
        sys.exit(2)


def _check_writable(option: str, path: Path | None) -> None:
    if path is not None and (path.name == "-" or not path.parent.is_dir() or (path.exists() and not path.is_file())):
        raise ValueError(f"{option}: expected a file in an existing folder, got {path}")


def _find(name: str) -> Subject:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a framework may swallow Ctrl-C while it is imported
    try:
        found = find(name)
        if not found.judged:
            raise ValueError(f"--subject: expected one that is judged, got {name}, which trihead bench times")
        return found
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: expected its framework to be installed, got: {error}") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _progress() -> Progress:
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=progress_console, transient=True, disable=not progress_console.is_terminal)


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
