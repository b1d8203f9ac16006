"""Layers of frameworks and libraries beside the contract: what each claims and does, and how to see it for oneself.

`python -m shared_tests.studies.builtins` writes docs/builtins.md; it needs `pip install 'trihead[builtins]'`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial, draw
from shared_tests.cases.table import CASES
from shared_tests.harness.asking import ask, ask_alone
from shared_tests.harness.claims import put_to
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.harness.known import KnownDifference, known_differences
from shared_tests.harness.report import Report
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import CLAIMS, Subject, offers
from shared_tests.harness.truth import Oracle
from shared_tests.storage import programs_folder, write_bytes
from shared_tests.studies.installation import versions

RELEASES = ("torch", "transformers", "flax", "jax", "equinox", "dm-haiku", "keras", "tensorflow", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Layer:
    """What a subject is, and how it is masked, in words."""

    subject: str
    what: str
    masks: str


@dataclass(frozen=True)
class Deviation:
    """A claim that says less than all, in words, and a few lines that show that it is so."""

    subject: str
    claim: str
    words: str
    reproduction: str


@cache
def layers() -> dict[str, Layer]:
    """The layers that `builtins.toml` describes, by the subject's name."""
    return {entry["subject"]: Layer(**entry) for entry in _entries("layer")}


@cache
def deviations() -> tuple[Deviation, ...]:
    """What `builtins.toml` says that each claims less than all."""
    return tuple(Deviation(**entry) for entry in _entries("deviation"))


def _entries(kind: str) -> list[dict[str, str]]:
    return list(tomllib.loads((files("shared_tests") / "builtins.toml").read_text())[kind])


def differences() -> list[KnownDifference]:
    """What these layers do against clauses that they claim."""
    return [entry for entry in known_differences() if entry.subject in layers()]


def page(report: Report, subjects: Mapping[str, Any]) -> str:
    """The page, of a report on the layers. No figure stands on it: they differ between processors."""
    parts = (_head(), _in_words(subjects), _matrix(report), _claims(subjects), _reproductions())
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head() -> list[str]:
    releases = {name: release.partition("+")[0] for name, release in versions().items() if name in RELEASES}
    installed = ", ".join(f"{name} {release}" for name, release in releases.items())
    return [
        "# The layers of frameworks and libraries",
        "",
        f"Written by `python -m shared_tests.studies.builtins`, on a CPU, of {installed}.",
        "Each is a subject (`trihead verify --subject torch_builtin`), judged as far as it claims.",
    ]


def _in_words(subjects: Mapping[str, Any]) -> list[str]:
    lines = ["## In words", "", "What a query gets that may attend to no key was asked in float32.", ""]
    lines += ["| subject | | no valid key, weights asked for | not asked for | dtypes | masks |", "|---" * 6 + "|"]
    for name, subject in subjects.items():
        cells = [name, layers()[name].what, *without_key(subject), _dtypes(subject), layers()[name].masks]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _dtypes(subject: Any) -> str:
    less = [d.words for d in deviations() if (d.subject, d.claim) == (subject.name, "dtypes")]
    return "; ".join([", ".join(subject.dtypes), *less])


def without_key(subject: Any) -> tuple[str, str]:
    """What a query gets that may attend to no key, in words: with attention weights asked for, and without."""
    case = put_to(subject, CASES["all lengths zero"])
    assert case is not None
    trial = draw("all lengths zero", case, "float32")
    model = subject.build(trial.config, trial.parameters, trial.dtype)
    output = _in_a_word(ask(subject, model, trial).output, trial)
    if subject.attention_weights == "none":
        return "gives none", output
    alone = _in_a_word(ask_alone(subject, model, trial), trial) if offers(subject, "forward_alone") else "not offered"
    return output, alone


def _in_a_word(output: Array, trial: Trial) -> str:
    if np.isnan(output).all():
        return "NaN"
    for kind, words in {"zeros": "zeros", "uniform": "the mean of all values"}.items():
        truth = Oracle().of(replace(trial, rows_without_key=kind), gradients=False)
        if within_gate(output, truth.stages["output"]).holds:
            return words
    return "something else"


def _matrix(report: Report) -> list[str]:
    lines = ["## Clause by clause", ""]
    lines += ["*holds*: in all that is asked. *differs*: only in what is [listed below](#what-differs).", ""]
    lines += [f"| clause | | {' | '.join(report.subjects)} |", "|---" * (2 + len(report.subjects)) + "|"]
    for clause, title in CLAUSES.items():
        cells = [_cell(report, clause, name) for name in report.subjects]
        lines.append(f"| {clause} | {title} | {' | '.join(cells)} |")
    return lines


def _cell(report: Report, clause: str, name: str) -> str:
    cell = report.cells[clause, name]
    if cell is None:
        return report.missing(clause, name)
    listed = any((entry.subject, entry.clause) == (name, clause) for entry in differences())
    return "**fails**" if not cell.holds else "differs" if listed else "holds"


def _claims(claims: Mapping[str, Any]) -> list[str]:
    dash = "A dash is what a port that says nothing claims ([porting.md](porting.md))."
    lines = ["## What each claims", "", dash, ""]
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
    return ["```python", *text.strip().splitlines(), "```", ""] if "\n" in text else [f"To see it: {text}.", ""]


def write(path: Path) -> None:
    """Judges the layers and writes the page."""
    subjects = {name: find(name, programs=programs_folder()) for name in layers()}
    write_bytes(path, page(judge(*subjects.values()), subjects).encode())


if __name__ == "__main__":
    write(Path("docs/builtins.md"))
