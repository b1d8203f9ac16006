"""`trihead cases`: what a port in any language is asked, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared_tests.cases.table import CASES
from shared_tests.commands.terminal import console, progress
from shared_tests.faults.diagnosis import diagnose
from shared_tests.harness.answers import Ask, read_claims, write_questions
from shared_tests.harness.judge import judge

ASKS: tuple[Ask, ...] = (lambda subject, advance: judge(subject, advance=advance), diagnose)
"""All that asks a port questions."""


def cases(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one that this wrote before.")],
    claims: Annotated[
        Path | None, typer.Option(help="A JSON file of what the port claims, by the names in docs/porting.md.")
    ] = None,
) -> None:
    """Write all that a port is asked as safetensors files, for one in any language to answer with files."""
    with progress("cases", 30 + sum(len(case.dtypes) for case in CASES.values())) as (bar, task):
        found = {} if claims is None else read_claims(claims)
        number = write_questions(folder, found, ASKS, lambda what: bar.update(task, advance=1, description=what))
    console.print(f"{number} questions in {folder / 'questions'}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"next: write answers of the same names into {folder / 'answers'}, then: trihead verify --answers {folder}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
