"""`trihead record`: what subjects answer today, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
from shared_tests.frameworks import OURS
from shared_tests.studies.recording import Record, record_apart


def record(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, a safetensors file.")],
    subject: SubjectOption = None,
    answers: AnswersOption = None,
    device: DeviceOption = None,
    cache: CacheOption = True,
) -> None:
    """Write what subjects answer today to every case, with the releases and settings, for trihead drift to compare."""
    check_writable("OUT", out)
    found = ask(names_of(subject, answers) or list(OURS), device, cache)
    found.save(out)
    errors = sum(len(recorded.errors) for recorded in found.subjects.values())
    names, said = ", ".join(found.subjects), f", {errors} answers came to an error" if errors else ""
    numbers = sum(array.size for array in found.arrays.values())
    console.print(f"{out}: {names}: {numbers:,} numbers{said}", markup=False, highlight=False, soft_wrap=True)


def ask(names: list[str], device: str | None, cache: bool) -> Record:
    """The record of the subjects of these names, with a progress bar."""
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    with progress("record", 100 * len(names)) as (bar, task):
        return record_apart(
            names, device, programs_of(cache), lambda what: bar.update(task, advance=1, description=what)
        )
