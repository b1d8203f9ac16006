"""How far results are from the oracle, in sigma, as bars on a logarithmic scale beside the half-normal curve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import erf, floor, log10, sqrt
from operator import add

from shared_tests.harness.compare import BINS, Verdict
from shared_tests.harness.report import Report
from shared_tests.harness.rounding import GATE

LEFT, TOP, HEIGHT, BAR = 36.0, 8.0, 160.0, 9.0
"""Where the bars stand in a figure, in its own units, and how far each is from the next."""
FLOOR = 0.5
"""The count at the foot of the bars: 0 has no logarithm, and a bar of 1 is to be seen."""


@dataclass(frozen=True)
class Histogram:
    """One figure: of whom, of which dtype ("" for all), what was found, and the count at the top of the scale."""

    subject: str
    dtype: str
    found: Verdict
    top: float

    @property
    def total(self) -> int:
        return sum(self.found.histogram)

    @property
    def beyond(self) -> int:
        """How many elements lie beyond the gate."""
        return self.found.histogram[-1]

    def within(self, sigmas: int) -> int:
        """How many elements lie within so many sigma."""
        return sum(self.found.histogram[: round(sigmas / GATE * BINS)])

    def bars(self) -> list[tuple[float, float, int]]:
        """Left edge, height and count of each bin; the last stands apart."""
        places = [LEFT + BAR * i + 6 * (i == BINS) for i in range(BINS + 1)]
        return [(x, self._height(count), count) for x, count in zip(places, self.found.histogram, strict=True)]

    def curve(self) -> str:
        """The points of the half-normal curve: what noise of exactly sigma would give in each bin."""
        edges = [GATE * i / BINS for i in range(BINS + 1)]
        expected = [self.total * (erf(b / sqrt(2)) - erf(a / sqrt(2))) for a, b in pairwise(edges)]
        points = [(LEFT + BAR * (i + 0.5), TOP + HEIGHT - self._height(n)) for i, n in enumerate(expected) if n > FLOOR]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

    def ticks(self) -> list[tuple[float, str]]:
        """Height and label of each power of ten."""
        powers = range(floor(log10(self.top)) + 1)
        return [(self._height(10**power), f"10{str(power).translate(RAISED)}") for power in powers]

    def places(self) -> list[tuple[float, str]]:
        """Place and label of every other sigma, and of what lies beyond the gate."""
        marks = [(LEFT + BAR * BINS * i / GATE, f"{i}σ") for i in range(0, int(GATE) + 1, 2)]
        return [*marks[:-1], (LEFT + BAR * (BINS + 1), f">{GATE:g}σ")]

    def _height(self, count: float) -> float:
        return HEIGHT * log10(max(count, FLOOR) / FLOOR) / log10(self.top / FLOOR)


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def histograms(report: Report) -> list[Histogram]:
    """One for each subject, over all dtypes; then one for each subject and dtype. All have one scale."""
    dtypes = list(dict.fromkeys(f.dtype for f in report.findings if f.verdict.histogram))
    found = {(name, dtype): _found(report, name, dtype) for dtype in ["", *dtypes] for name in report.subjects}
    top = 1.2 * max([10, *(count for verdict in found.values() for count in verdict.histogram)])
    return [Histogram(*of, verdict, top) for of, verdict in found.items() if sum(verdict.histogram)]


def _found(report: Report, subject: str, dtype: str) -> Verdict:
    """All that was compared in sigma of a subject, and if a dtype is given, in that."""
    findings = [f for f in report.findings if f.subject == subject and dtype in ("", f.dtype)]
    return reduce(add, (f.verdict for f in findings if f.verdict.histogram), Verdict())
