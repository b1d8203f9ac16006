"""Heatmaps of attention weights, after the book's `show_heatmaps`. They need matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_tests.harness.rounding import GATE, Array, Expected
from shared_tests.studies.heads import as_weights, lengths_of
from shared_tests.studies.panels import Labels, Words, bar, draw, draw_lengths, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS, NOT_A_NUMBER = "viridis", "0.75"
ERROR_COLOURS, NO_ERROR = "RdBu_r", "0.93"


def show_heads(
    attention_weights: Any,
    *,
    valid_lens: Any = None,
    row_labels: Sequence[str] | None = None,
    query_labels: Words = None,
    key_labels: Words = None,
    titles: Sequence[str] | None = None,
    xlabel: str = "Keys",
    ylabel: str = "Queries",
) -> Figure:
    """Draws attention weights of any framework: a row of panels for each sequence or layer, a column for each head.

    All panels share one scale, from 0 to the largest weight. NaN is grey.

    Args:
        attention_weights: (rows, heads, queries, keys), an array that NumPy can read.
        valid_lens: (rows,) or (rows, queries), integers: a line is drawn after each query's last valid key.
        row_labels: a text for each row.
        query_labels: a text, such as a token, for each query; or a list of such lists, one for each row.
        key_labels: as `query_labels`, for each key.
        titles: of the columns; "Head 1", "Head 2", … if none are given.
        xlabel: what the columns of a panel are.
        ylabel: what the rows of a panel are.

    Returns:
        A `matplotlib.figure.Figure`, which pyplot does not know: write it with `figure.savefig("heads.png")`.

    Raises:
        ValueError: an array or labels of the wrong shape.
        TypeError: valid_lens that are no integers.
        ImportError: matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> figure = show_heads(np.full((2, 5, 4, 6), 1 / 6))
        >>> [panel.get_title() for panel in figure.axes[:5]]
        ['Head 1', 'Head 2', 'Head 3', 'Head 4', 'Head 5']
    """
    weights = as_weights(attention_weights, "rows")
    lengths = lengths_of(valid_lens, weights.shape, "rows")
    labels = Labels(titles, row_labels, query_labels, key_labels, xlabel, ylabel).checked(weights.shape)
    figure, panels = grid(weights.shape, labels)
    images = draw(panels, weights, 0, _largest(weights), COLOURS, NOT_A_NUMBER)
    draw_lengths(panels, lengths)
    bar(figure, images, panels, "attention weight")
    return figure


def show_frameworks(
    answers: Mapping[str, Any],
    truth: Expected,
    *,
    valid_lens: Any = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draws the attention weights of one sequence by several subjects, and in a last row how far they are from right.

    A row of panels for each subject, then one of errors: of each element that of the subject which is furthest from
    the truth, with its sign, in sigma, the rounding noise that is predicted for this element. Of right subjects it is
    noise, without a pattern. Colours end at 8 sigma: what lies beyond is a bug. Grey is what all subjects have exactly,
    as the 0 of masked keys, for which no noise is predicted.

    Args:
        answers: {name: attention weights (heads, queries, keys)}.
        truth: the oracle's attention weights of that shape, with sigma.
        valid_lens: () or (queries,), integers.
        query_labels: a text for each query.
        key_labels: a text for each key.
        titles: of the columns; "Head 1", "Head 2", … if none are given.

    Returns:
        A `matplotlib.figure.Figure`, as `show_heads`.

    Raises:
        ValueError, TypeError, ImportError: as `show_heads`.
    """
    weights = _stacked(answers, truth)
    shape = len(weights) + 1, *weights.shape[1:]
    lengths = None if valid_lens is None else lengths_of(np.asarray(valid_lens)[None], (1, *shape[1:]), "rows")
    labels = Labels(titles, [*answers, "largest error"], query_labels, key_labels).checked(shape)
    errors = furthest(weights, truth)
    limit = min(np.abs(errors[np.isfinite(errors)]).max(initial=0), GATE) or GATE
    figure, panels = grid(shape, labels)
    images = draw(panels[:-1], weights, 0, _largest(weights), COLOURS, NOT_A_NUMBER)
    noise = draw(panels[-1:], np.clip(errors, -2 * GATE, 2 * GATE)[None], -limit, limit, ERROR_COLOURS, NO_ERROR)
    draw_lengths(panels[:-1], None if lengths is None else np.repeat(lengths, len(weights), axis=0))
    bar(figure, images, panels[:-1], "attention weight")
    bar(figure, noise, panels[-1:], "error, σ", "both" if (np.abs(errors) > limit).any() else "neither")
    return figure


def furthest(answers: Array, truth: Expected) -> Array:
    """Of each element of (subjects, ...) the error that is furthest from 0, in sigma, as (...).

    NaN where sigma is 0 and all are exactly right. With an error there, or an answer that is NaN, it is infinite.
    """
    error = answers - truth.value
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = (error / truth.sigma).astype(np.float64)
    deviation[np.isnan(error)] = np.inf
    place = np.where(np.isnan(deviation), -1, np.abs(deviation)).argmax(axis=0)
    found: Array = np.take_along_axis(deviation, place[None], axis=0)[0]
    return found


def _stacked(answers: Mapping[str, Any], truth: Expected) -> Array:
    """(subjects, heads, queries, keys)."""
    if not answers:
        raise ValueError("answers: expected attention weights of at least one subject, got none")
    for name, answer in answers.items():
        if np.shape(answer) != truth.value.shape:
            raise ValueError(f"{name}: expected attention weights {truth.value.shape}, got {np.shape(answer)}")
    return as_weights(np.stack([np.asarray(answer) for answer in answers.values()]), "subjects")


def _largest(weights: Array) -> float:
    """The upper end of the scale: the largest weight that is a number, or 1 if none is above 0."""
    return float(weights[np.isfinite(weights)].max(initial=0)) or 1.0
