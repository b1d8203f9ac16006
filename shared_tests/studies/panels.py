"""The panels of a heatmap: how large they are, what is written beside them, and what is drawn in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_tests.harness.rounding import Array
from shared_tests.studies.figures import blank

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Words = Sequence[str] | Sequence[Sequence[str]] | None
"""A text for each position, the same in all rows; or such a list for each row."""
WIDTH, LARGEST_PANEL, LINE_HEIGHT, LETTER, GAP = 8.3, 1.7, 0.115, 0.06, 0.1
"""Inches: of the figure, which grows where words need more; at most of a panel; of words; between panels."""
BESIDE, ABOVE_AND_BELOW, BAR = 1.3, 0.65, 0.14
"""Inches around the panels: labels, titles, numbers and the colour bar, which is so wide; words come on top."""


@dataclass(frozen=True)
class Labels:
    """What is written beside the panels."""

    titles: Sequence[str] | None = None
    rows: Sequence[str] | None = None
    queries: Words = None
    keys: Words = None
    xlabel: str = "Keys"
    ylabel: str = "Queries"

    def checked(self, shape: tuple[int, ...]) -> Labels:
        """With a title for each head, and words for each row. Raises ValueError unless they fit weights of a shape."""
        rows, heads, queries, keys = shape
        titles = [f"Head {i + 1}" for i in range(heads)] if self.titles is None else self.titles
        _check("titles", titles, heads)
        _check("row_labels", self.rows, rows)
        by_query = _by_row("query_labels", self.queries, rows, queries)
        by_key = _by_row("key_labels", self.keys, rows, keys)
        return replace(self, titles=titles, queries=by_query, keys=by_key)


def _check(name: str, texts: Sequence[str] | None, number: int) -> None:
    if texts is not None and (isinstance(texts, str) or len(texts) != number):
        raise ValueError(f"{name}: expected {number} texts, got {texts if isinstance(texts, str) else len(texts)}")


def _by_row(name: str, words: Words, rows: int, length: int) -> Words:
    """The words of each row, if there are any."""
    if words is None:
        return None
    if not words or isinstance(words[0], str):
        words = [words] * rows  # type: ignore[list-item]  # a text for each position
    if len(words) != rows:
        raise ValueError(f"{name}: expected a list for each of {rows} rows, got {len(words)}")
    for texts in words:
        _check(name, texts, length)
    return words


def grid(shape: tuple[int, ...], labels: Labels) -> tuple[Figure, Array]:
    """A figure with all that is written, and its (rows, heads) panels, in which nothing is drawn yet."""
    rows, heads, queries, keys = shape
    beside, below = BESIDE + _longest(labels.queries), ABOVE_AND_BELOW + _longest(labels.keys)
    room = min((WIDTH - beside) / heads - GAP, LARGEST_PANEL)
    cell = max(room / keys, LINE_HEIGHT if labels.keys or labels.queries else 0)
    width, height = cell * keys, float(np.clip(cell * queries, 0.5 * LARGEST_PANEL / heads, 2 * cell * keys))
    figure = blank(heads * (width + GAP) + beside, rows * (height + GAP) + below)
    panels: Array = figure.subplots(rows, heads, squeeze=False)
    for panel, title in zip(panels[0], labels.titles or (), strict=True):
        panel.set_title(title, size=8, parse_math=False)
    for panel, text in zip(panels[:, 0], labels.rows or [""] * rows, strict=True):
        panel.set_ylabel(text, size=8, parse_math=False)
    for (row, head), panel in np.ndenumerate(panels):
        panel.set_box_aspect(height / width)
        _write_ticks(panel.xaxis, keys, labels.keys, row, row == rows - 1, 90)
        _write_ticks(panel.yaxis, queries, labels.queries, row, head == 0, 0)
    figure.supxlabel(labels.xlabel, size=9)
    figure.supylabel(labels.ylabel, size=9)
    return figure, panels


def _longest(words: Words) -> float:
    """The inches that the longest word takes."""
    return LETTER * max((len(word) for texts in words or () for word in texts), default=0)


def _write_ticks(axis: Axis, number: int, words: Words, row: int, outside: bool, rotation: float) -> None:
    """Words, or a few numbers, of which the first position is 0; inside the grid nothing."""
    axis.set_tick_params(labelsize=7, length=2, pad=1.5)
    if words is not None and (outside or (rotation and words[row] != words[-1])):
        for text in axis.set_ticks(range(number), words[row], rotation=rotation):
            text.label1.set_parse_math(False)
        axis.set_tick_params(length=0)
    elif words is None and outside:
        axis.set_ticks(range(0, number, -(-number // 4)))
    else:
        axis.set_ticks([])


def draw(panels: Array, matrices: Array, low: float, high: float, colours: str, no_number: str) -> list[AxesImage]:
    """Heatmaps of (rows, heads, queries, keys) in their panels, on one scale."""
    import matplotlib

    colour_map = matplotlib.colormaps[colours].with_extremes(bad=no_number)
    options: dict[str, Any] = {"cmap": colour_map, "vmin": low, "vmax": high}
    options |= {"aspect": "auto", "interpolation": "nearest"}
    return [panel.imshow(matrices[place], **options) for place, panel in np.ndenumerate(panels)]


def draw_lengths(panels: Array, lengths: Array | None) -> None:
    """A line after the last valid key of every query, of lengths (rows, queries)."""
    for (row, _), panel in np.ndenumerate(panels) if lengths is not None else ():
        assert lengths is not None
        edges = np.arange(lengths.shape[1] + 1) - 0.5
        panel.stairs(lengths[row] - 0.5, edges, orientation="horizontal", baseline=None, color="white", linewidth=1.2)


def bar(figure: Figure, images: list[AxesImage], panels: Array, what: str, extend: str = "neither") -> None:
    """One colour bar, at the right of these panels."""
    rows = panels[0, 0].get_gridspec().nrows
    tall, wide = figure.get_figheight() * len(panels) / rows, figure.get_figwidth() - BESIDE
    drawn = figure.colorbar(
        images[0], ax=panels, extend=extend, fraction=BAR / wide, pad=0.05 / wide, aspect=tall / BAR
    )
    drawn.set_label(what, size=8)
    drawn.ax.tick_params(labelsize=7, length=2)
