"""What is systematic in moves of which none is beyond the gate: a mean, or a spread, that noise does not explain.

Both tests take a clause in one dtype, each element in its own sigma. How far sums over elements vary is told from the
oracle's draws of the error, so that what elements' errors have in common is counted.

- mean: of two right answers the moves have mean 0. The mean of each case is weighted by the inverse of its variance.
- spread: the errors after are at most `APART` times as large as before, in the root mean square.

A score is a standard normal number if that is just so, and an alarm is one beyond `ALARM`. docs/drift.md has what was
measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shared_tests.harness.rounding import DRAWS, Array
from shared_tests.studies.moving import Moves

ALARM = 5.0
"""In standard deviations of a score."""
APART = 3.0
"""Right layers of several frameworks err by other shares of sigma, one by up to 2.2 times another's: not by so many."""


@dataclass(frozen=True)
class Systematic:
    """A clause in one dtype whose moves have a mean, or a spread, that noise does not explain."""

    subject: str
    clause: str
    dtype: str
    what: str
    """"mean" or "spread"."""
    size: float
    """The mean move, or the root mean square of the errors after, in sigma."""
    usual: float
    """The standard deviation of that mean where noise explains it, or the root mean square of the errors before."""
    score: float
    elements: int


@dataclass
class Draws:
    """The arrays of one case that moved, and sums over the oracle's draws of their errors, which may be in common."""

    elements: int = 0
    moves: float = 0.0
    before: float = 0.0
    """Sum of squared errors, in sigma; so is `after`."""
    after: float = 0.0
    sums: Array = field(default_factory=lambda: np.zeros(DRAWS))
    squares: Array = field(default_factory=lambda: np.zeros(DRAWS))

    def add(self, array: Moves) -> None:
        """Adds one array: of its elements those that are noise, and within the gate."""
        sigma = array.truth.sigma
        chosen = array.kept & (sigma > 0) & ~array.beyond & ~array.outside(array.before)
        draws = array.truth.errors[:, chosen] / sigma[chosen]
        before, after = (((x - array.truth.value)[chosen] / sigma[chosen]) for x in (array.before, array.after))
        self.elements += draws.shape[1]
        self.moves += float((after - before).sum())
        self.before += float((before**2).sum())
        self.after += float((after**2).sum())
        self.sums = self.sums + draws.sum(axis=1)
        self.squares = self.squares + (draws**2).sum(axis=1)


@dataclass
class Sums:
    """What the two tests need of a clause in one dtype, gathered case by case: their errors are independent."""

    elements: int = 0
    weight: float = 0.0
    weighted: float = 0.0
    """The sum of the cases' means, each with its weight."""
    before: float = 0.0
    after: float = 0.0
    squares: float = 0.0
    """Of the draws: the mean of the sum of squared errors, and its variance."""
    variance: float = 0.0

    def add(self, case: Draws) -> None:
        """Adds one case."""
        of_sum = 2 * float(np.mean(case.sums**2))  # of the sum of moves, which have two errors each
        if of_sum:
            self.weight += case.elements**2 / of_sum
            self.weighted += case.moves * case.elements / of_sum
        self.elements += case.elements
        self.before += case.before
        self.after += case.after
        self.squares += float(case.squares.mean())
        self.variance += float(case.squares.var(ddof=1))

    @property
    def mean_score(self) -> float:
        """The weighted mean of the moves in its standard deviation."""
        return self.weighted / self.weight**0.5 if self.weight else 0.0

    @property
    def spread_score(self) -> float:
        """By how much the squared errors after exceed `APART`^2 times those before, in its standard deviation."""
        most = APART**2 * self.before
        noise = (self.variance * (self.after**2 + most**2)) ** 0.5 / max(self.squares, 1)
        return (self.after - most) / noise if noise else 0.0

    def alarms(self, subject: str, clause: str, dtype: str) -> list[Systematic]:
        """What is systematic, if anything is."""
        found = []
        if abs(self.mean_score) > ALARM:
            found.append(("mean", self.weighted / self.weight, self.weight**-0.5, self.mean_score))
        if self.spread_score > ALARM:
            before, after = ((squares / self.elements) ** 0.5 for squares in (self.before, self.after))
            found.append(("spread", after, before, self.spread_score))
        return [Systematic(subject, clause, dtype, *numbers, self.elements) for numbers in found]
