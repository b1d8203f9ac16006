"""Which faults explain a port's numbers: one at a time, then pairs, over one probe after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, permutations
from math import inf, log

from shared_tests.faults.fault import Fault
from shared_tests.faults.fit import Fit, fit, rough_width
from shared_tests.faults.probes import Probe
from shared_tests.faults.variants import Arrays, Faults

MOST = 6
"""So many explanations are kept from one probe to the next."""


@dataclass
class Search:
    """The explanations that are left, the simplest first, and what has been explained so far.

    base: what a port claims to do otherwise, which is part of every variant.
    """

    variants: Sequence[Fault]
    base: Faults = ()
    left: list[Faults] = field(default_factory=lambda: [()])
    seen: list[tuple[Probe, Arrays]] = field(default_factory=list)
    unexplained: list[tuple[Probe, Arrays]] = field(default_factory=list)
    refused: list[Probe] = field(default_factory=list)
    pairs: int = 3
    """How often pairs are still tried, which takes longer than all else."""
    shown: dict[Fault, Probe] = field(default_factory=dict)
    """The probe that first asked for each fault."""

    def ask(self, probe: Probe, answer: Arrays) -> bool:
        """Takes an answer into account; whether an explanation of this and of all before is left."""
        fitting = [faults for faults in self.left if self.fits(faults, probe, answer)]
        if not fitting:
            self.seen.append((probe, answer))
            fitting = [] if self.unexplained and probe.isolates else self._grown()
            if not fitting:
                self.seen.pop()
                self.unexplained.append((probe, answer))
                return False
            for fault in {fault for faults in fitting for fault in faults}:
                self.shown.setdefault(fault, probe)
            self.unexplained = [one for one in self.unexplained if not self.fits(fitting[0], *one)]
        else:
            self.seen.append((probe, answer))
        self.left = self._ranked(fitting)
        return True

    def fits(self, faults: Faults, probe: Probe, answer: Arrays) -> Fit | None:
        return fit(self.base + faults, probe, answer)

    def worst(self, faults: Faults) -> float:
        """The greatest deviation, in sigma, over all that these faults explain."""
        found = [self.fits(faults, probe, answer) for probe, answer in self.seen]
        return max((one.worst for one in found if one), default=0.0)

    def _grown(self) -> list[Faults]:
        """With one fault more than before; else one or two in place of those.

        A loss of precision has to be needed; beside answers that nothing explains, its noise would explain by chance.
        """
        variants = [fault for fault in self.variants if not (self.unexplained and fault.unit)]
        one = self._explaining((*faults, fault) for faults in self.left for fault in variants)
        one += self._explaining((fault,) for fault in variants if (fault,) not in one)
        if one and not min(map(_unit, one)):
            return one
        if self.pairs == 0:
            return one
        self.pairs -= 1
        coarse = min(map(_unit, one), default=1.0)
        finer = [fault for fault in variants if fault.unit < coarse]
        return one + self._explaining(_pairs(finer))

    def _explaining(self, candidates: Iterator[Faults]) -> list[Faults]:
        """The best that explain the last answer and all before it; the last is the hardest."""
        told = (faults for faults in candidates if sum(_noisy(fault) for fault in faults) <= 1)  # two look like one
        costs = {faults: self._cost(faults, rough=True) for faults in told}
        hopeful = sorted((faults for faults, cost in costs.items() if cost < inf), key=costs.__getitem__)
        found = (faults for faults in hopeful if all(self.fits(faults, *one) for one in self.seen[::-1]))
        return [*islice(found, MOST)]

    def _ranked(self, found: list[Faults]) -> list[Faults]:
        """The narrowest first, and of those equally narrow what the catalogue has first."""
        order = {fault: place for place, fault in enumerate(self.variants)}
        return sorted(found, key=lambda faults: (self._cost(faults), [order.get(fault, 0) for fault in faults]))[:MOST]

    def _cost(self, faults: Faults, rough: bool = False) -> float:
        """How much noise is allowed for; a fault more has to halve it. Infinite where nothing is explained."""
        total = 0.0
        for probe, answer in self.seen[::-1]:
            if rough:
                width = rough_width(self.base + faults, probe, answer)
            else:
                width = one.width if (one := self.fits(faults, probe, answer)) else None
            if width is None:
                return inf
            total += width
        return total / max(len(self.seen), 1) + len(faults) * log(2)


def _noisy(fault: Fault) -> bool:
    return bool(fault.unit) and fault.noisy


def _unit(faults: Faults) -> float:
    return max((fault.unit for fault in faults), default=0.0)


def _pairs(faults: Sequence[Fault]) -> Iterator[Faults]:
    """Every two; in both orders where both change the same step."""
    place = {fault: i for i, fault in enumerate(faults)}
    for pair in permutations(faults, 2):
        if place[pair[0]] < place[pair[1]] or pair[0].changes.keys() & pair[1].changes.keys():
            yield pair
