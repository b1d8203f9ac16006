"""The frameworks' own layers beside the contract: what each claims, what it does, and how to see it for oneself.

`python -m shared_tests.studies.builtins` writes docs/builtins.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from shared_tests.frameworks import OURS
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.find import find, known
from shared_tests.harness.judge import judge
from shared_tests.harness.known import KnownDifference, known_differences
from shared_tests.harness.report import Report
from shared_tests.harness.subject import CHOICES, LISTS, Subject
from shared_tests.storage import write_bytes
from shared_tests.studies.installation import versions

CLAIMS = (*LISTS, *CHOICES, "lowest_score")
LAYERS = tuple(sorted(set(known()) - set(OURS)))
"""Subjects that are not ours."""


@dataclass(frozen=True)
class Deviation:
    """A claim that says less than all, in words, and a few lines that show that it is so."""

    subject: str
    claim: str
    words: str
    reproduction: str


def deviations() -> tuple[Deviation, ...]:
    """The entries of `builtins.toml`."""
    text = (files("shared_tests") / "builtins.toml").read_text()
    return tuple(Deviation(**entry) for entry in tomllib.loads(text)["deviation"])


def differences() -> list[KnownDifference]:
    """What these layers do against clauses that they claim."""
    return [entry for entry in known_differences() if entry.subject in LAYERS]


def page(reports: Mapping[str, Report], claims: Mapping[str, Subject]) -> str:
    """The page, of a report and the claims of each layer. No figure stands on it: they differ between processors."""
    return "\n".join([*_head(), *_matrix(reports), "", *_claims(claims), "", *_reproductions()]) + "\n"


def _head() -> list[str]:
    names = ("torch", "flax", "jax", "keras")
    installed = ", ".join(f"{name} {version}" for name, version in versions().items() if name in names)
    return [
        "# The frameworks' own layers",
        "",
        f"Written by `python -m shared_tests.studies.builtins`, on a CPU, of {installed}.",
        "Each is a subject (`trihead verify --subject torch_builtin`), judged as far as it claims.",
        "",
        "## Clause by clause",
        "",
        "*holds*: in all that is asked. *differs*: only in what is [listed below](#what-differs), and nowhere else.",
        "",
    ]


def _matrix(reports: Mapping[str, Report]) -> list[str]:
    lines = [f"| clause | | {' | '.join(reports)} |", "|---" * (2 + len(reports)) + "|"]
    for clause, title in CLAUSES.items():
        cells = [_cell(report, clause, name) for name, report in reports.items()]
        lines.append(f"| {clause} | {title} | {' | '.join(cells)} |")
    return lines


def _cell(report: Report, clause: str, name: str) -> str:
    cell = report.cells[clause, name]
    if cell is None:
        return report.missing(clause, name)
    listed = any((entry.subject, entry.clause) == (name, clause) for entry in differences())
    return "**fails**" if not cell.holds else "differs" if listed else "holds"


def _claims(claims: Mapping[str, Subject]) -> list[str]:
    lines = ["## What each claims", "", "A dash is the most that there is to claim ([porting.md](porting.md)).", ""]
    lines += [f"| claim | {' | '.join(claims)} |", "|---" * (1 + len(claims)) + "|"]
    for claim in CLAIMS:
        given = [getattr(subject, claim) for subject in claims.values()]
        cells = ["–" if _same(value, getattr(Subject, claim)) else f"`{value!r}`" for value in given]
        lines += [f"| `{claim}` | {' | '.join(cells)} |"] if set(cells) > {"–"} else []
    return lines


def _same(value: object, default: object) -> bool:
    return (tuple(value) if isinstance(value, list) else value) == default


def _reproductions() -> list[str]:
    lines = ["## What differs", ""]
    for entry in differences():
        lines += [f"**{entry.subject}, clause {entry}**: {entry.reason}.", "", *_code(entry.reproduction)]
    lines += ["## Why they claim no more", ""]
    for deviation in deviations():
        lines += [f"**{deviation.subject}, `{deviation.claim}`**: {deviation.words}.", ""]
        lines += _code(deviation.reproduction)
    return lines[:-1]


def _code(text: str) -> list[str]:
    return ["```python", *text.strip().splitlines(), "```", ""] if "assert" in text else [f"To see it: {text}.", ""]


def write(path: Path, names: Sequence[str] = LAYERS) -> None:
    """Judges the layers and writes the page."""
    subjects = {name: find(name) for name in names}
    reports = {name: judge(subject) for name, subject in subjects.items()}
    write_bytes(path, page(reports, subjects).encode())


if __name__ == "__main__":
    write(Path("docs/builtins.md"))
