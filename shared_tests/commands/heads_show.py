"""`trihead heads show`: what the heads of a layer attend to, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from shared_tests.commands.terminal import SubjectOption, check_writable, console, progress
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Array
from shared_tests.storage import read_arrays, write_bytes
from shared_tests.studies.examples import EXAMPLES, SENTENCE, Example
from shared_tests.studies.figures import KINDS, as_bytes, require
from shared_tests.studies.heads import as_weights, lengths_of
from shared_tests.studies.heatmaps import show_frameworks, show_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Numbers = list[int] | None


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="book (the book's call), digits (trained on images), minilm (a trained BERT), or a file .safetensors "
            "with attention_weights (rows, heads, queries, keys), and if there are valid_lens (rows,) or "
            "(rows, queries).",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file .png, .svg or .pdf to write.")],
    subject: SubjectOption = None,
    row: Annotated[
        Numbers, typer.Option(help="Only this row, counted from 1. Repeat for more. Of several subjects: one.")
    ] = None,
    head: Annotated[
        Numbers, typer.Option(help="Only this head, counted from 1, as in the titles. Repeat for more.")
    ] = None,
    sentence: Annotated[str | None, typer.Option(help="What minilm reads.")] = None,
    queries: Annotated[str | None, typer.Option(help="Words of the queries, separated by spaces.")] = None,
    keys: Annotated[str | None, typer.Option(help="Words of the keys, separated by spaces.")] = None,
) -> None:
    """Draw attention weights as heatmaps: a column for each head, a row for each sequence or layer.

    Several subjects are drawn one above the other, and in a last row how far they are from the oracle, in sigma.
    """
    if out.suffix not in KINDS:
        raise ValueError(f"OUT: expected a file {', '.join(KINDS)}, got {out}")
    check_writable("OUT", out)
    if sentence is not None and what != "minilm":
        raise ValueError(f"--sentence: expected with minilm, got {what}")
    require()
    words = {name: text.split() for name, text in (("query_labels", queries), ("key_labels", keys)) if text is not None}
    if what in EXAMPLES:
        figure = _of_example(EXAMPLES[what](sentence or SENTENCE), subject or list(OURS), row, head, words)
    elif what.endswith(".safetensors"):
        if subject:
            raise ValueError(f"--subject: expected with {', '.join(EXAMPLES)}, got {what}")
        figure = _of_file(Path(what), row, head, words)
    else:
        raise ValueError(f"WHAT: expected {', '.join(EXAMPLES)} or a file .safetensors, got {what}")
    write_bytes(out, as_bytes(figure, out.suffix))
    console.print(f"{out}", markup=False, highlight=False, soft_wrap=True)


def _of_example(example: Example, names: list[str], row: Numbers, head: Numbers, words: dict[str, Any]) -> Figure:
    """One subject: all its rows; several: one row of each."""
    if len(set(names)) < len(names):
        raise ValueError(f"--subject: expected different names, got {', '.join(names)}")
    number_of_heads = example.trials[0].config.num_heads
    several = len(names) > 1
    if several and row and len(row) > 1:
        raise ValueError(f"--row: expected one, of {len(names)} subjects, got {len(row)}")
    rows = chosen("--row", row or ([1] if several else None), len(example.row_labels))
    columns = chosen("--head", head, number_of_heads)
    words = {"query_labels": example.words, "key_labels": example.words} | words
    words |= {"titles": titles(columns), "valid_lens": example.valid_lens[rows]}
    found = {}
    with progress("heads", len(names)) as (bar, task):
        for name in names:
            bar.update(task, description=name)
            subject = find(name)
            found[subject.name] = example.attention_weights(subject)[rows][:, columns]
            bar.update(task, advance=1)
    if several:
        one = {name: weights[0] for name, weights in found.items()}
        truth = example.truth()[rows][:, columns][0]
        return show_frameworks(one, truth, **words | {"valid_lens": words["valid_lens"][0]})
    (weights,) = found.values()
    return show_heads(weights, row_labels=[example.row_labels[i] for i in rows], **words)


def _of_file(path: Path, row: Numbers, head: Numbers, words: dict[str, Any]) -> Figure:
    arrays = read_arrays(path)
    if "attention_weights" not in arrays:
        raise ValueError(f"{path}: expected an array attention_weights, got {', '.join(arrays) or 'none'}")
    weights = as_weights(arrays["attention_weights"], "rows")
    rows, columns = chosen("--row", row, len(weights)), chosen("--head", head, weights.shape[1])
    lengths = lengths_of(arrays.get("valid_lens"), weights.shape, "rows")
    lengths = None if lengths is None else lengths[rows]
    return show_heads(weights[rows][:, columns], valid_lens=lengths, titles=titles(columns), **words)


def chosen(option: str, numbers: Numbers, of: int) -> Array:
    """Positions from 0, of numbers that count from 1; all if none are given."""
    if unknown := [number for number in numbers or () if not 1 <= number <= of]:
        raise ValueError(f"{option}: expected a number from 1 to {of}, got {unknown[0]}")
    return np.array(numbers or range(1, of + 1)) - 1


def titles(columns: Array) -> list[str]:
    return [f"Head {column + 1}" for column in columns]
