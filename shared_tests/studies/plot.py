"""Figures, for which matplotlib is needed (the extra `plot`)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared_tests.studies.bench import CONTESTANTS, SWEEP, Memory, Time


def draw_sweep(found: Sequence[Time | Memory], kind: str) -> bytes:
    """Time (above) and added memory (below) of a forward pass against length, log-log; a column per framework."""
    swept = [one for one in found if one.shape in SWEEP]
    names = list(dict.fromkeys(one.subject for one in swept))
    if not swept:
        raise ValueError("--plot: expected figures of the length sweep, got none")
    figure = Figure(figsize=(4 * len(names), 6), layout="constrained")
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
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind)
    return drawn.getvalue()


def _line(panel: Axes, label: str, points: dict[int, float]) -> None:
    panel.loglog(list(points), list(points.values()), marker="o", markersize=3, label=label, base=2)
