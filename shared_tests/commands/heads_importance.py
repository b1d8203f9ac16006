"""`trihead heads importance`: how important each head of a trained model is, by four measures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from shared_tests.commands.terminal import SubjectOption, check_writable, console, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Array
from shared_tests.storage import write_bytes
from shared_tests.studies import importance as weighing
from shared_tests.studies.classifier import Digits
from shared_tests.studies.experiment import Experiment, Recorded, gradient
from shared_tests.studies.installation import versions
from shared_tests.studies.sentence_model import SentenceModel

EXPERIMENTS: dict[str, type[Digits | SentenceModel]] = {"digits": Digits, "minilm": SentenceModel}


def importance(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="digits (8 heads, trained on images) or minilm (a trained BERT).")
    ],
    subject: SubjectOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers here, as JSON.")] = None,
) -> None:
    """Weigh each head by gradients, by leaving it out, by entropy and by confidence; do measures, and subjects, agree?

    The first subject runs the model; each weighs the same inputs by gradients.
    """
    check_writable("--json", json_file)
    if what not in EXPERIMENTS:
        raise ValueError(f"WHAT: expected {' or '.join(EXPERIMENTS)}, got {what}")
    names = subject or list(OURS)
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    subjects = [find(name) for name in names]
    experiment = EXPERIMENTS[what](subjects[0])
    recorded, measures = weigh(experiment)
    by_subject = {}
    with progress(what, len(subjects)) as (bar, task):
        for one in subjects:
            bar.update(task, description=f"gradient by {one.name}")
            by_subject[one.name] = gradient(one, experiment.layers(one), recorded)
            bar.update(task, advance=1)
    agreement = _agreement(experiment, by_subject)
    loss = float(experiment.losses(()).mean())
    _print(measures, loss)
    for name, words in agreement.items():
        console.print(f"gradient by {name}: {words}", highlight=False, markup=False, soft_wrap=True)
    if json_file is not None:
        numbers = as_json(what, names[0], measures) | {"versions": versions(), "loss": loss, "agreement": agreement}
        numbers |= {"by_subject": {name: found.tolist() for name, found in by_subject.items()}}
        write_bytes(json_file, json.dumps(numbers, indent=1).encode())


def weigh(experiment: Experiment) -> tuple[list[Recorded], weighing.Measures]:
    """What went through the layers, and all measures; with a progress bar."""
    with progress(f"{experiment.name}: {weighing.GRADIENT}", weighing.steps(experiment)) as (bar, task):
        recorded = experiment.recorded()
        found = weighing.measures(experiment, recorded, lambda doing: bar.update(task, advance=1, description=doing))
    return recorded, found


def as_json(what: str, subject: str, measures: weighing.Measures) -> dict[str, Any]:
    """What there is for a machine to read of the measures: by name, (layers, heads)."""
    pairs = weighing.correlations(measures).items()
    return {
        "what": what,
        "subject": subject,
        "measures": {name: found.tolist() for name, found in measures.items()},
        "rank_correlation": [{"measures": list(pair), "spearman": number} for pair, number in pairs],
    }


def print_table(what: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*titles, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(what, highlight=False, markup=False, soft_wrap=True)
    console.print(table)


def _print(measures: weighing.Measures, loss: float) -> None:
    """A row for each head, counted from 1; and how the measures agree."""
    places = np.ndindex(measures[weighing.GRADIENT].shape)
    rows = [[f"{i + 1}", f"{j + 1}", *(f"{x[i, j]:.4f}" for x in measures.values())] for i, j in places]
    print_table(f"importance; the loss of the whole model is {loss:.4f}", ["layer", "head", *measures], rows)
    pairs = weighing.correlations(measures).items()
    rows = [[*pair, f"{number:+.2f}"] for pair, number in pairs]
    print_table("rank correlation over heads", ["measure", "measure", "Spearman"], rows)


def _agreement(experiment: Experiment, by_subject: dict[str, Array]) -> dict[str, str]:
    """Of one layer in sigma of the oracle; of many, which the oracle would take long for, relative to the first."""
    if isinstance(experiment, Digits):
        truth = experiment.truth()
        worst = {name: within_gate(found[0], truth).worst for name, found in by_subject.items()}
        return {name: f"at most {number:.2f}σ from the oracle" for name, number in worst.items()}
    first = next(iter(by_subject))
    others = {name: weighing.apart(found, by_subject[first]) for name, found in by_subject.items() if name != first}
    return {name: f"at most {number:.1e} of it from {first}'s" for name, number in others.items()}
