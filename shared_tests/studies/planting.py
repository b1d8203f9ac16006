"""Faults planted: which clause catches each, and whether diagnosis names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from shared_tests.cases.table import CASES
from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.faults.diagnosis import diagnose
from shared_tests.faults.fault import BY_WEIGHTS, Fault
from shared_tests.faults.fit import fit
from shared_tests.faults.planted import Planted
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe, empty_rows, isolating, plain
from shared_tests.harness.answering import OF_CALLS
from shared_tests.harness.clauses import CLAUSES, RAISES
from shared_tests.harness.judge import judge
from shared_tests.studies.installation import versions

Pair = tuple[Fault, Fault]


@dataclass(frozen=True)
class Planting:
    """One fault in the layer: the clauses that fail, and what diagnosis names, most likely first."""

    fault: Fault
    clauses: tuple[str, ...]
    with_weights: tuple[str, ...]
    """From outputs and attention weights."""
    alone: tuple[str, ...]
    """From outputs alone."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return (
            str(self.fault),
            ", ".join(self.clauses) or "none",
            self._word(self.with_weights, ("outputs", BY_WEIGHTS)),
            self._word(self.alone, ("outputs",)),
        )

    def _word(self, found: Sequence[str], shown: Sequence[str]) -> str:
        """shown: what the port gives, which may not show it."""
        if not found:
            return "finds nothing" if self.fault.shown_by in shown else f"{self.fault.shown_by} show it"
        return "named" if found[0] == self.fault.id else f"says {found[0]}"


def caught(fault: Fault) -> tuple[str, ...]:
    """The clauses that fail for a port with this fault, in the fault's own case, and in how it is called."""
    report = judge(Planted(fault), cases={name: CASES[name] for name in {fault.case, OF_CALLS}})
    broken = {finding.clause for finding in report.failures}
    return tuple(clause for clause in (RAISES, *CLAUSES) if clause in broken)


def named(*faults: Fault, weights: bool = True) -> tuple[str, ...]:
    """What diagnosis says of a port with these faults, without its stages."""
    found = diagnose(Planted(*faults, weights=weights, stages=False))
    return tuple(cause.fault or "unexplained" for cause in found.causes)


def plant(fault: Fault) -> Planting:
    """Judges and diagnoses a port with this fault."""
    return Planting(fault, caught(fault), named(fault), named(fault, weights=False))


def pairs(count: int, seed: int = 0) -> Iterator[Pair]:
    """Two faults at random, which change different steps, and both of which show in what diagnosis asks."""
    faults = [fault for fault in CATALOGUE if fault.variant and fault.kind not in ("gradients", "protocol")]
    random = np.random.default_rng(seed)
    while count:
        one, other = (faults[i] for i in random.choice(len(faults), 2, replace=False))
        if one.id != other.id and not one.changes.keys() & other.changes.keys() and _both_show(one, other):
            count -= 1
            yield one, other


def _both_show(one: Fault, other: Fault) -> bool:
    """Whether neither fault alone explains every answer of a port that has both."""
    port = Port(Planted(one, other, stages=False))
    answers = [(probe, answer) for probe in _asked() if (answer := port.ask(probe))]
    return all(any(fit((fault,), *asked) is None for asked in answers) for fault in (one, other))


def _asked() -> Iterator[Probe]:
    """About what diagnosis asks of a port that takes everything."""
    yield from (isolating("float64", True, what) for what in ("softmax", "values", "weights"))
    yield from (plain("float64", "one width", True, kind) for kind in ("none", "lengths", "lengths per query"))
    yield plain("float64", "one width", True, "lengths per query", 40.0)
    yield from empty_rows(plain("float64", "one width", True, "lengths per query"))


def both_named(pair: Pair) -> bool:
    """Whether diagnosis names both."""
    return {fault.id for fault in pair} <= {*named(*pair)}


def page(plantings: Iterable[Planting], right: int, count: int) -> str:
    """docs/failures.md, with `right` pairs of `count` named."""
    found = list(plantings)
    ids: dict[str, str] = {}
    for planting in found:
        ids.setdefault(planting.fault.id, planting.fault.words)
    lines = [
        "# What goes wrong",
        "",
        "For whoever has wrong numbers and wants a name for them. Every fault of the catalogue is one change of one",
        "step of a plain layer (`shared_tests/faults`). Each is planted there: the judge must fail it, and",
        "`trihead diagnose` should name it.",
        "",
        "What `diagnose` prints of a port that has one begins with its id and its words, as they stand below; then",
        "come the case and the number that show it best ([a whole run](porting.md#when-it-fails)):",
        "",
        "```text",
        *printed("mask-inverted"),
        "```",
        "",
        f"Measured on {date.today()} with Python {versions()['python']} and numpy {versions()['numpy']}, by",
        "`trihead faults --pairs 200 --page docs/failures.md`:",
        "",
        *(f"- {line}" for line in totals(found, right, count)),
        "",
        "Named: the fault stands first in what diagnosis says. A pair is named if both are; pairs are drawn at random",
        "of faults that change different steps, where neither hides the other. A bias of W_k that is missing changes",
        "no output: it adds the same to all scores of a query, which the softmax takes out. Stages alone show it.",
        "",
        "What is planted and what diagnosis tries are the same entries: the figures say that faults can be told",
        "from each other and from noise, not that a port's fault is listed. One that is not reads *unexplained*. Ports",
        "written apart from the catalogue, each narrow in its way and wrong on top, are in",
        "`shared_tests/meta_tests/test_strangers.py`.",
        "",
        "## The faults",
        "",
        "| fault | a port that has it |",
        "|---|---|",
        *(f"| `{name}` | {words} |" for name, words in ids.items()),
        "",
        "## Each planted",
        "",
        "| fault | clauses that fail | with attention weights | from outputs alone |",
        "|---|---|---|---|",
        *(f"| {' | '.join(planting.cells)} |" for planting in found),
    ]
    return "\n".join(lines) + "\n"


def printed(name: str) -> list[str]:
    """What diagnosis says of a port with this fault."""
    return diagnose(Planted(next(fault for fault in CATALOGUE if fault.id == name))).words.splitlines()


def totals(found: Sequence[Planting], right: int, count: int) -> list[str]:
    """The figures, a line each."""
    lines = []
    uncaught = [str(planting.fault) for planting in found if not planting.clauses]
    lines.append(f"{len(found) - len(uncaught)} of {len(found)} faults are caught by a clause")
    for words, cell in (("with attention weights", 2), ("from outputs alone", 3)):
        cells = [planting.cells[cell] for planting in found if not planting.cells[cell].endswith("show it")]
        right_ones = cells.count("named")
        lines.append(f"{right_ones} of {len(cells)} that show are named {words}: {right_ones / max(len(cells), 1):.1%}")
    if count:
        lines.append(f"{right} of {count} random pairs are named, both of them: {right / count:.1%}")
    return lines
