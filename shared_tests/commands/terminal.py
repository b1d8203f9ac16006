"""What the commands share: options, subjects found by name, progress, and the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from shared_tests.harness.answers import MANIFEST
from shared_tests.storage import programs_folder

WIDTH = None if sys.stdout.isatty() else 120
console = Console(width=WIDTH)
progress_console = Console(stderr=True)

SubjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--subject", help="A name from shared_tests/subjects, or FILE.py:Class. Repeat for more. Default: the three."
    ),
]
AnswersOption = Annotated[
    list[Path] | None,
    typer.Option("--answers", help="A folder that trihead cases wrote, with a port's answers. Repeat for more."),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="Where layers and arrays are put: cpu, gpu:1, cuda:0, …")
]
CacheOption = Annotated[bool, typer.Option(help="Keep what JAX compiles for the next run, in the user's cache folder.")]


def check_writable(option: str, path: Path | None) -> None:
    if path is not None and (path.name == "-" or not path.parent.is_dir() or (path.exists() and not path.is_file())):
        raise ValueError(f"{option}: expected a file in an existing folder, got {path}")


def names_of(subject: list[str] | None, answers: list[Path] | None) -> list[str]:
    """By what names `find` finds the subjects of these options; none if there are none."""
    return [*(subject or ()), *(str(folder / MANIFEST) for folder in answers or ())]


def programs_of(cache: bool) -> Path | None:
    """The folder for compiled programs, if they are to be kept."""
    return programs_folder() if cache else None


@contextmanager
def progress(title: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on standard error, if that is a terminal."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=progress_console, transient=True, disable=not progress_console.is_terminal) as bar:
        yield bar, bar.add_task(title, total=total)
