"""`trihead heads study`: what pruning costs, and what it brings."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from shared_tests.commands.heads_importance import EXPERIMENTS, as_json, print_table, weigh
from shared_tests.commands.terminal import check_writable, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Array
from shared_tests.storage import write_bytes
from shared_tests.studies import curves, figures, importance, removal
from shared_tests.studies.classifier import Digits
from shared_tests.studies.installation import machine, versions
from shared_tests.studies.speed import SHAPE, TITLES, Speed, speeds

SPEED = "speed"


def study(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="digits, minilm (a trained BERT), or speed (of pruned layers).")
    ],
    subject: Annotated[
        str | None, typer.Option(help="Who prunes: torch_impl unless it is given. Of speed: only this one.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Random orders. Default: 10.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of training after pruning, for digits; 0: none. Default: 3.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Of speed: interleaved rounds. Default: 15.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the curves here (.png, .svg, .pdf).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers here, as JSON.")] = None,
) -> None:
    """Remove heads by importance, in reverse and at random, and measure how good the model is with ever fewer.

    Layers are pruned with prune_heads, not masked; each keeps a head. Orders come from one part of the data, the
    quality from another.
    """
    for option, path in {"--json": json_file, "--plot": plot}.items():
        check_writable(option, path)
    if what not in (*EXPERIMENTS, SPEED):
        raise ValueError(f"WHAT: expected {', '.join(EXPERIMENTS)} or {SPEED}, got {what}")
    for option, value, places in (
        ("--seeds", seeds, EXPERIMENTS),
        ("--epochs", epochs, (Digits.name,)),
        ("--rounds", rounds, (SPEED,)),
        ("--plot", plot, EXPERIMENTS),
    ):
        if value is not None and what not in places:
            raise ValueError(f"{option}: expected with {' or '.join(places)}, got {what}")
    if plot is not None:
        if plot.suffix not in figures.KINDS:
            raise ValueError(f"--plot: expected a file {', '.join(figures.KINDS)}, got {plot}")
        figures.require()
    if what == SPEED:
        numbers = _speed(subject, rounds or 15)
    else:
        numbers = _curves(what, subject or OURS[0], seeds or 10, 3 if epochs is None else epochs, plot)
    if json_file is not None:
        write_bytes(json_file, json.dumps(numbers | {"versions": versions()}, indent=1).encode())


def _curves(what: str, subject: str, seeds: int, epochs: int, plot: Path | None) -> dict[str, Any]:
    """Prints the table, draws the figure, and returns what there is for a machine to read."""
    seen = _images() if what == Digits.name and epochs else None
    experiment = EXPERIMENTS[what](find(subject))
    job = removal.Removal(experiment, seeds)
    if isinstance(experiment, Digits) and seen is not None:
        job.retrained, job.epochs = partial(experiment.retrained, seen=seen, epochs=epochs), epochs
    _, measures = weigh(experiment)
    orders = job.orders(importance.rankings(measures))
    found = []
    with progress(what, job.number(orders)) as (bar, task):
        for curve in job.curves(orders):
            found.append(curve)
            bar.update(task, advance=1, description=f"{curve.order.measure}, {curve.order.direction}")
    titles, rows = curves.table(found)
    print_table(f"{experiment.quality_of} by {subject}", titles, rows)
    if plot is not None:
        write_bytes(plot, curves.draw(found, experiment.quality_of, plot.suffix))
    drawn = [_as_json(curve, experiment.config.num_heads) for curve in found]
    return as_json(what, subject, measures) | {"quality": experiment.quality_of, "curves": drawn}


def _as_json(curve: removal.Curve, num_heads: int) -> dict[str, Any]:
    order = curve.order
    return {
        "measure": order.measure,
        "direction": order.direction,
        "heads": [[head // num_heads + 1, head % num_heads + 1] for head in order.heads],
        "epochs": curve.epochs,
        "removed": curve.removed,
        "quality": curve.quality,
    }


def _images() -> tuple[Array, Array]:
    """The images to train on. Raises ImportError, in one line, without scikit-learn."""
    try:
        from shared_tests.goldens.train_digits import seen
    except ModuleNotFoundError as error:
        raise ImportError(
            f"--epochs: expected scikit-learn, which has the images to train on (pip install 'trihead[train]'), or "
            f"--epochs 0, got: {error}"
        ) from error
    return seen()


def _speed(subject: str | None, rounds: int) -> dict[str, Any]:
    if subject not in (None, *OURS):
        raise ValueError(f"--subject: expected one of {', '.join(OURS)}, got {subject}")
    names = [subject] if subject else OURS
    found: list[Speed] = []
    with progress(SPEED, len(names)) as (bar, task):
        for name in names:
            bar.update(task, description=name)
            found += speeds(name, SHAPE, rounds)
            bar.update(task, advance=1)
    print_table(f"forward pass, float32, (batch, length, hidden, heads) {SHAPE}", TITLES, [x.cells() for x in found])
    return {"shape": str(SHAPE), "rounds": rounds, "machine": machine(), "speeds": [asdict(one) for one in found]}
