"""What the commands share: options, subjects found by name, progress, and the terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
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
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="Where layers and arrays are put: cpu, gpu:1, cuda:0, …")
]
CacheOption = Annotated[bool, typer.Option(help="Keep what JAX compiles for the next run, in the user's cache folder.")]


def subjects_of(names: Sequence[str] | None, device: str | None, cache: bool) -> list[Any]:
    """The subjects of these names, the three if there are none, on this device.

    Raises ValueError for an unknown name, a name that comes twice, or a subject that cannot be put there.
    """
    subjects = [_find(name) for name in names or OURS]
    found = [subject.name for subject in subjects]
    if len(set(found)) < len(found):
        raise ValueError(f"--subject: expected different names, got {', '.join(found)}")
    for subject in subjects:
        prepare(subject, device, cache)
    return subjects


def prepare(subject: Any, device: str | None, cache: bool) -> None:
    """Puts a subject on a device, and has its compiled programs kept."""
    backend = getattr(subject, "backend", None)
    if device is not None:
        if backend is None:
            raise ValueError(f"--device: expected a subject that can be placed, got {subject.name}")
        backend.place(device)
    if cache and backend is not None:
        backend.keep_programs(programs_folder())


def check_writable(option: str, path: Path | None) -> None:
    if path is not None and (path.name == "-" or not path.parent.is_dir() or (path.exists() and not path.is_file())):
        raise ValueError(f"{option}: expected a file in an existing folder, got {path}")


def _find(name: str) -> Any:
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a framework may swallow Ctrl-C while it is imported
    try:
        return find(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name}: expected its framework to be installed, got: {error}") from error
    finally:
        signal.signal(signal.SIGINT, before)


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
