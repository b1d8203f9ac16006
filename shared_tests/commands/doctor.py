"""`trihead doctor`: what this installation is."""

from __future__ import annotations

import typer

from shared_tests.cases.table import CASES
from shared_tests.commands.terminal import console
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.studies import installation


def doctor() -> None:
    """Versions, devices and settings that move numbers, and the installed ones of the three on one case."""
    facts, installed = installation.installation(), []
    for name in OURS:
        try:
            subject = find(name)
        except ImportError as error:
            facts[name] = f"not installed: {error}"
        else:
            installed.append(subject)
            facts |= installation.settings(subject)
    for fact, value in facts.items():
        console.print(f"{fact:28} {value}", highlight=False, markup=False)
    report = judge(*installed, cases={name: CASES[name] for name in ("book", "zero lengths")})
    console.print(f"[bold]{report.verdict()}[/]", highlight=False)
    raise typer.Exit(0 if report.holds else 1)
