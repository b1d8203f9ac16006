"""Curves of removal as a table and as a figure, for which matplotlib is needed (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shared_tests.harness.rounding import Array
from shared_tests.studies.figures import as_bytes, blank
from shared_tests.studies.removal import LEAST, MOST, RANDOM, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, COLUMNS = 3.1, 2.6, 3
"""Inches of a panel, and how many stand side by side at most."""
LINES = {LEAST: ("tab:blue", "least important first"), MOST: ("tab:red", "most important first")}


def table(curves: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: the quality by each order, against how many heads are removed; of random ones mean and range."""
    titles = ["heads removed by", "", *(str(number) for number in curves[0].removed)]
    rows: list[tuple[str, str, Iterable[float]]] = []
    for (measure, epochs), found in _grouped(curves).items():
        name = _title(measure, epochs)
        if measure == RANDOM:
            parts = (f"mean of {len(found)} seeds", "least of them", "most of them")
            rows += [(name, part, numbers) for part, numbers in zip(parts, _range(found), strict=True)]
        else:
            rows += [(name, one.order.direction, one.quality) for one in found]
    return titles, [[name, part, *(f"{number:.3f}" for number in numbers)] for name, part, numbers in rows]


def _title(measure: str, epochs: int) -> str:
    return measure + (f", trained {epochs} epochs" if epochs else "")


def draw(curves: Sequence[Curve], quality_of: str, kind: str) -> bytes:
    """A panel for each measure, with random orders in each: their mean, and in grey their range."""
    groups = _grouped(curves)
    panels = [key for key in groups if key[0] != RANDOM]
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure = blank(WIDTH * columns, HEIGHT * rows + 0.3)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, (measure, epochs) in zip(axes, panels, strict=False):
        panel.set_title(_title(measure, epochs), size=9)
        _draw(panel, groups[measure, epochs], groups[RANDOM, epochs])
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    figure.supxlabel("heads removed", size=9)
    figure.supylabel(quality_of, size=9)
    return as_bytes(figure, kind)


def _draw(panel: Axes, found: Sequence[Curve], random: Sequence[Curve]) -> None:
    mean, low, high = _range(random)
    panel.fill_between(random[0].removed, low, high, color="0.85", linewidth=0)
    panel.plot(random[0].removed, mean, color="0.45", linestyle="--", label=f"{RANDOM}, {len(random)} seeds")
    for one in found:
        colour, label = LINES[one.order.direction]
        panel.plot(one.removed, one.quality, marker="o", markersize=3, color=colour, label=label)
    panel.tick_params(labelsize=8)


def _grouped(curves: Sequence[Curve]) -> dict[tuple[str, int], list[Curve]]:
    """By measure and by epochs of training, in their order."""
    found: dict[tuple[str, int], list[Curve]] = {}
    for one in curves:
        found.setdefault((one.order.measure, one.epochs), []).append(one)
    return found


def _range(random: Sequence[Curve]) -> tuple[Array, Array, Array]:
    """Mean, least and most at each point."""
    quality = np.array([one.quality for one in random])
    return quality.mean(axis=0), quality.min(axis=0), quality.max(axis=0)
