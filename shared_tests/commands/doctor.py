"""`trihead doctor`: what this installation is."""

from __future__ import annotations

import typer

from shared_tests.cases.table import CASES
from shared_tests.commands.terminal import console
from shared_tests.frameworks import FRAMEWORKS, OURS
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.storage import programs_folder
from shared_tests.studies import installation


def doctor() -> None:
    """Versions, devices and settings that move numbers, and those of the three that are installed on two cases."""
    facts, installed = installation.installation(), []
    for name in OURS:
        try:
            subject = find(name, programs=programs_folder())
        except ImportError as error:
            facts[name] = f"not installed: {error}"
        else:
            installed.append(subject)
            facts |= installation.settings(subject)
    for fact, value in facts.items():
        console.print(f"{fact:28} {value}", highlight=False, markup=False)
    if not installed:
        words = f"None of the three is installed: pip install 'trihead[{FRAMEWORKS[0].extra}]', or another."
        console.print(words, markup=False)
        console.print("A port in any other framework can be judged: trihead verify --subject FILE.py:Class")
        raise typer.Exit(0)
    report = judge(*installed, cases={name: CASES[name] for name in ("book", "zero lengths")})
    console.print(f"[bold]{report.verdict()}[/]", highlight=False)
    raise typer.Exit(0 if report.holds else 1)
