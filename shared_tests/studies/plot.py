"""The figure of the benchmark, for which matplotlib is needed (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared_tests.studies.bench import CONTESTANTS, SWEEP, Memory, Time
from shared_tests.studies.figures import as_bytes, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sweep(found: Sequence[Time | Memory], kind: str) -> bytes:
    """Time (above) and added memory (below) of a forward pass against length, log-log; a column per framework."""
    swept = [one for one in found if one.shape in SWEEP]
    names = list(dict.fromkeys(one.subject for one in swept))
    if not swept:
        raise ValueError("--plot: expected figures of the length sweep, got none")
    figure = blank(4 * len(names), 6)
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for (above, below), name in zip(panels.T, names, strict=True):
        above.set_title(name)
        below.set_xlabel("length")
        for contestant in CONTESTANTS:
            ours = [one for one in swept if (one.subject, one.contestant) == (name, contestant)]
            _line(
                above,
                contestant,
                {t.shape.length: t.median for t in ours if isinstance(t, Time) and t.step == "forward"},
            )
            _line(below, contestant, {m.shape.length: m.megabytes for m in ours if isinstance(m, Memory)})
    panels[0, 0].set_ylabel("forward, ms")
    panels[1, 0].set_ylabel("added peak memory, MB")
    panels[0, 0].legend()
    return as_bytes(figure, kind)


def _line(panel: Axes, label: str, points: dict[int, float]) -> None:
    panel.loglog(list(points), list(points.values()), marker="o", markersize=3, label=label, base=2)
