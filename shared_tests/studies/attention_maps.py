"""Attention weights of one case as maps: a row for each subject, a column for each head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_tests.cases.case import Case, draw
from shared_tests.cases.table import CASES
from shared_tests.harness.compare import in_sigma
from shared_tests.harness.report import Report
from shared_tests.harness.rounding import GATE, Array, Expected
from shared_tests.harness.truth import Oracle, Truth

ENTRY = 0
"""The entry of the batch that is shown."""


@dataclass(frozen=True)
class Row:
    """The maps of one row, (heads, queries, keys): their title, their unit, and the number that has the full colour."""

    title: str
    values: Array
    full: float
    unit: str = ""

    def shade(self, value: float) -> float:
        """How strong a number is drawn, from 0 to 1."""
        return min(value / self.full, 1.0) if np.isfinite(value) and self.full else 0.0

    def marked(self, value: float) -> bool:
        """Whether a map crosses this one out: an attention weight of exactly 0, no number, what is off."""
        return value > GATE if self.unit else value == 0 or not np.isfinite(value)


@dataclass(frozen=True)
class Heatmaps:
    """The rows, of which case, and who is not among them, with the reason."""

    case: str
    columns: list[str]
    rows: Sequence[Row]
    absent: dict[str, str]


def heatmaps(report: Report) -> Heatmaps:
    """Of the case whose attention weights most subjects have given; the book's, if there is a choice."""
    shown = {asked: _weights(report, asked) for asked in report.answers}
    asked = max((a for a in shown if shown[a]), key=lambda a: (len(shown[a]), _place(a[0])), default=None)
    if asked is None:
        return Heatmaps("", [], [], dict.fromkeys(report.subjects, "no attention weights in float64"))
    truth = Oracle().of(draw(*asked, "float64"), gradients=False)
    expected = _expected(truth, shown[asked])
    alike = {name: _of_entry(array) for name, array in shown[asked].items() if array.shape == expected.value.shape}
    absent = {name: _why(shown[asked].get(name), expected) for name in report.subjects if name not in alike}
    columns = ["all heads"] if expected is truth.averaged else [f"Head {i + 1}" for i in range(expected.value.shape[1])]
    rows = _rows(alike, _of_entry(expected.value), _of_entry(expected.sigma)) if alike else []
    return Heatmaps(asked[0], columns, rows, absent)


def _weights(report: Report, asked: tuple[str, Case]) -> dict[str, Array]:
    given = {name: answer.attention_weights for name, answer in report.answers[asked].items()}
    return {name: array for name, array in given.items() if array is not None and array.size}


def _place(case: str) -> int:
    """The earlier a case stands in the table, the larger."""
    return -list(CASES).index(case) if case in CASES else -len(CASES)


def _expected(truth: Truth, shown: dict[str, Array]) -> Expected:
    """The attention weights per head; averaged, if that is what was given."""
    per_head = truth.stages["attention_weights"]
    averaged = {array.shape for array in shown.values()} == {truth.averaged.value.shape}
    return truth.averaged if averaged else per_head


def _why(weights: Array | None, expected: Expected) -> str:
    if weights is None:
        return "no attention weights in float64"
    return f"attention weights of shape {weights.shape}, expected {expected.value.shape}"


def _of_entry(weights: Array) -> Array:
    """(heads, queries, keys) of one entry; averaged attention weights are those of one head."""
    one = weights[ENTRY]
    return one if one.ndim == 3 else one[None]


def _rows(maps: dict[str, Array], value: Array, sigma: Array) -> list[Row]:
    """The oracle, the subjects, and how far they are from each other; a single one, how far it is from the oracle."""
    every = {"oracle": value, **maps}
    full = max(float(np.nanmax(np.where(np.isfinite(x), x, 0))) for x in every.values())
    rows = [Row(name, values, full) for name, values in every.items()]
    if len(maps) > 1:
        apart = np.ptp(np.stack([*maps.values()]), axis=0)
        difference, title = in_sigma(apart, Expected(np.zeros_like(value), sigma)), "largest difference between two"
    else:
        difference, title = in_sigma(next(iter(maps.values())), Expected(value, sigma)), "difference from the oracle"
    finite = difference[np.isfinite(difference)]
    return [*rows, Row(title, difference, min(float(finite.max(initial=0)), GATE), "σ")]
