"""Figures as files, for which matplotlib is needed (the extra `plot`)."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".pdf")
"""The kinds of file that a figure can be written as."""
DPI = 150


def require() -> None:
    """Raises ImportError, in one line, without matplotlib."""
    if find_spec("matplotlib") is None:
        raise ImportError("matplotlib: expected it to be installed (pip install 'trihead[plot]'), got none")


def blank(width: float, height: float) -> Figure:
    """A new figure of this size in inches, which pyplot knows nothing of. Raises ImportError without matplotlib."""
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a file of a kind, such as ".png"; the same figure gives the same bytes."""
    import matplotlib

    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "trihead"}):
        figure.savefig(drawn, format=kind[1:], dpi=DPI, bbox_inches="tight", metadata=dates.get(kind))
    return drawn.getvalue()
