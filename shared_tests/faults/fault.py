"""A fault: one thing that a port does otherwise, as a change of one step of the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared_tests.faults.arithmetic import Change

BY_WEIGHTS = "attention weights"
KINDS = ("parameters", "heads", "scale", "mask", "rows", "softmax", "precision", "protocol", "gradients")


@dataclass(frozen=True, eq=False)
class Fault:
    """One entry of the catalogue."""

    id: str
    """As docs/failures.md lists it; entries that do the same in another form share one."""
    kind: str
    words: str
    """What is done, to be read after "when": "the mask is tiled over heads, not repeated"."""
    changes: Mapping[str, Change]
    """By the step of `layer.Layer`, or of `planted.Planted`."""
    form: str = ""
    """What tells entries of one id apart."""
    unit: float = 0.0
    """For a loss of precision that no exact variant describes: the unit roundoff of what is computed less well."""
    case: str = "bias, lengths per query"
    """The case of the table that shows it."""
    variant: bool = True
    """Whether diagnosis tries it as a variant of the reference; what is found by asking in another way is none."""
    shown_by: str = "outputs"
    """Or `BY_WEIGHTS`, or "stages": without these nothing shows it."""
    noisy: bool = True
    """Whether that loss is drawn as noise. If not it is a rounding of the fault's own, the same in every run."""

    def __str__(self) -> str:
        return f"{self.id} ({self.form})" if self.form else self.id
