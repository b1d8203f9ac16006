"""`trihead diagnose`: what a port can be asked, where it parts first, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shared_tests.commands.terminal import (
    CacheOption,
    DeviceOption,
    check_writable,
    console,
    names_of,
    programs_of,
    progress,
)
from shared_tests.faults.diagnosis import STEPS
from shared_tests.faults.diagnosis import diagnose as examine
from shared_tests.faults.words import ATTRIBUTES, STAGE, as_attributes
from shared_tests.harness.find import find
from shared_tests.storage import write_bytes


def diagnose(
    subject: Annotated[
        str | None, typer.Option("--subject", help="A name from shared_tests/subjects, or FILE.py:Class.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", help="A folder that trihead cases wrote, with a port's answers.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the diagnosis here, as JSON.")] = None,
    device: DeviceOption = None,
    cache: CacheOption = True,
) -> None:
    """Say what a port can be asked and which fault explains its numbers; exit 0 if nothing is wrong, else 1."""
    check_writable("--json", json_file)
    names = names_of([subject] if subject else [], [answers] if answers else [])
    if len(names) != 1:
        raise ValueError(f"diagnose: expected one of --subject and --answers, got {len(names)}")
    found = find(names[0], device, programs_of(cache))
    with progress("diagnose", STEPS) as (bar, task):
        diagnosis = examine(found, lambda what: bar.update(task, advance=1, description=what))
    lines = diagnosis.words.splitlines()
    if diagnosis.stage:
        lines += [f"{STAGE}: {diagnosis.stage}"]
    if attributes := as_attributes(diagnosis.claims, found):
        lines += ["", ATTRIBUTES, *attributes]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        write_bytes(json_file, json.dumps(diagnosis.as_json(), indent=1, allow_nan=False).encode())
    raise typer.Exit(0 if diagnosis.holds else 1)
