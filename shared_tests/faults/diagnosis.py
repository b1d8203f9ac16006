"""Diagnosis: what a port can be asked, where it parts from the oracle first, and which faults explain its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_tests.faults import fills, protocol
from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.faults.domain import find_domain
from shared_tests.faults.fault import Fault
from shared_tests.faults.fit import fit
from shared_tests.faults.gradients import of_gradients
from shared_tests.faults.of_softmax import UNIFORM
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe, empty_rows, isolating, plain, with_lengths, without_a_head
from shared_tests.faults.refusals import refused
from shared_tests.faults.search import Search
from shared_tests.faults.variants import truth
from shared_tests.faults.words import Cause, Diagnosis, claims_of, first_of_each, of_search
from shared_tests.harness.subject import as_subject, in_words, offers

Advance = Callable[[str], None]
FORWARD = [fault for fault in CATALOGUE if fault.kind != "gradients"]

STEPS = 30
"""How often, about, `diagnose` says what it asks next."""


def diagnose(subject: Any, advance: Advance = lambda _: None) -> Diagnosis:
    """Asks a subject, in a fixed order, and says what was found. It need not derive from `Subject`.

    Raises ValueError, in one line, for one that does not take three heads, as all that it is asked has.
    """
    subject = as_subject(subject)
    if 3 % subject.heads_multiple_of:
        raise ValueError(
            f"diagnose: expected a port that takes 3 heads, got heads_multiple_of {subject.heads_multiple_of}"
        )
    with np.errstate(all="ignore"):  # faults make infinities and NaN, which is what they are asked for
        return Examination(Port(subject), advance).diagnosis()


def forward_variants(subject: Any) -> list[Fault]:
    """The faults that may explain outputs and attention weights."""
    variants = [fault for fault in FORWARD if fault.variant or (subject.additive and fault.case.startswith("additive"))]
    return variants + ([] if subject.rows_without_key == "uniform" else [UNIFORM])


def claimed(subject: Any) -> tuple[Fault, ...]:
    """What a subject claims to do otherwise than the reference."""
    claims = (
        ("empty-rows-zero", subject.rows_without_key == "zeros"),
        ("empty-rows-nan", subject.rows_without_key == "nan"),
        ("attention-weights-averaged", subject.attention_weights == "averaged"),
    )
    return tuple(next(f for f in CATALOGUE if f.id == name) for name, claim in claims if claim)


@dataclass
class Examination:
    """One port under diagnosis, and what is found so far."""

    port: Port
    advance: Advance
    causes: list[Cause] = field(default_factory=list)
    _lowest: float | None = None

    def diagnosis(self) -> Diagnosis:
        """All steps, in their order."""
        self.advance("what it can be asked")
        domain = find_domain(self.port)
        if domain is None:
            error = next(iter(self.port.errors.values()), "no answer of a floating dtype")
            return Diagnosis(
                self.port.subject.name, {}, None, [Cause("crash", f"every call comes to an error: {error}")]
            )
        self.domain, self.search = domain, Search(forward_variants(self.port.subject), claimed(self.port.subject))
        unsteady = self._again()
        if not unsteady:
            for probe in self._forward():
                self.advance(probe.name)
                self._ask(probe)
            self._lowest = self._fill()
            for probe in self._further():
                self.advance(probe.name)
                self._ask(probe)
            self._stages()
        self.causes = of_search(self.search, self.port) + self.causes
        self.causes += self._other_calls()
        self.causes += refused(self.port, domain, self.search.base + self.search.left[0])
        if not unsteady and not self.search.left[0] and not self.search.unexplained:
            self.causes += of_gradients(self.port, domain, self.search.base)
        self.causes = first_of_each(self.causes)
        claims = claims_of(self.port, domain, self.search, self.causes, self._lowest)
        return Diagnosis(self.port.subject.name, claims, self._stage(), self.causes)

    def _again(self) -> bool:
        """Whether its numbers change by themselves, so that no variant can explain them."""
        if not self.port.subject.live:
            return False
        probe, showing = self.domain.probe(), None
        if "none" in self.domain.kinds and self.domain.widths != ["distinct widths"]:
            showing = isolating(self.domain.dtype, self.domain.biases[-1], "weights")
        try:
            found = list(protocol.called_again(self.port, probe, showing))
        except (Exception, SystemExit) as error:
            found = [("crash", f"called twice: {in_words(error)}")]
        self.causes += [Cause(fault, words, probe.name) for fault, words in found]
        return any(fault in ("not-repeatable", "dropout-in-evaluation") for fault, _ in found)

    def _forward(self) -> Iterator[Probe]:
        """What has fewest steps first, then masks and widths."""
        domain = self.domain
        kinds = [kind for kind in ("none", "lengths per query", "lengths", "causal") if kind in domain.kinds]
        yield domain.probe(kinds[0])
        if domain.dtype == "float64" and kinds[0] == "none" and {"one width", "one x"} & set(domain.widths):
            yield from (isolating("float64", domain.biases[-1], what) for what in ("softmax", "values", "weights"))
        yield from (domain.probe(kind) for kind in kinds[1:])
        yield from (domain.probe(bias=bias) for bias in domain.biases[:-1])
        yield from (domain.probe(widths=widths) for widths in domain.widths if widths != "one width")

    def _further(self) -> Iterator[Probe]:
        """What asks for more than masks and widths: large scores, additive scoring, a head less, rows without a key."""
        domain = self.domain
        kinds = [kind for kind in ("none", "lengths per query", "lengths", "causal") if kind in domain.kinds]
        yield domain.probe(spread=40.0)
        if self.port.subject.additive:
            yield plain(domain.dtype, "distinct widths", False, "lengths", additive=True)
        if self.port.subject.pruned:
            yield without_a_head(domain.probe())
        yield from self._rows(domain.dtype)
        for dtype in domain.dtypes[1:]:
            yield from (domain.probe(kind, dtype=dtype) for kind in kinds[:2])
            yield from self._rows(dtype)

    def _rows(self, dtype: str) -> Iterator[Probe]:
        """Rows without a key, and lengths beyond the keys."""
        kinds = [kind for kind in ("lengths per query", "lengths") if kind in self.domain.kinds]
        if self.port.subject.rows_without_key != "undefined":
            yield from (probe for kind in kinds[:1] for probe in empty_rows(self.domain.probe(kind, dtype=dtype)))
        if "lengths" in kinds:
            yield with_lengths(self.domain.probe("lengths", dtype=dtype), "lengths beyond the keys", 8, 1000, 65536)

    def _ask(self, probe: Probe) -> None:
        answer = self.port.ask(probe)
        if answer is None:
            if probe not in self.search.refused:
                self.search.refused.append(probe)
            return
        self.search.ask(probe, answer)

    def _stages(self) -> None:
        """Stages, where they are offered and the outputs are right, may part nevertheless."""
        probe = self.domain.probe()
        stages = self.port.stages(probe)
        if stages is not None and not self.search.left[0] and not self.search.unexplained:
            known = {name: array for name, array in stages.items() if name in truth(probe)}
            self.search.ask(probe, known)

    def _fill(self) -> float | None:
        """The score down to which masking holds, if it does not hold to the last; a claimed one is no fault."""
        kinds = [kind for kind in ("lengths per query", "lengths") if kind in self.domain.kinds]
        unclear = self.search.unexplained and self.port.subject.live
        if not kinds or unclear or any(fault.kind == "mask" for fault in self.search.left[0]):
            return None
        probe = self.domain.probe(kinds[0])
        fault, lowest = fills.measured(self.port, probe, self.search.base + self.search.left[0])
        claimed = self.port.subject.lowest_score
        if lowest is not None and (claimed is None or lowest > claimed):
            words = fault.words if fault else "masked keys have weight where scores are low"
            where = f"where every score is below {lowest:g}"
            self.causes.append(Cause(fault.id if fault else "fill-finite", f"{words} ({where})", probe.name))
        if fault is not None:
            self.search.base += (fault,)
        return lowest

    def _other_calls(self) -> Iterator[Cause]:
        probe, base = self.domain.probe(), self.search.base + self.search.left[0]
        empty = self.domain.probe("lengths") if "lengths" in self.domain.kinds else probe
        asked = [protocol.empties(self.port, empty)] if self.port.subject.empty else []
        if self.port.subject.live and not any(cause.fault in UNSTEADY for cause in self.causes):
            asked = [
                protocol.kept_between_calls(self.port, probe, base),
                protocol.beside_another_model(self.port, probe),
                *([] if self.search.unexplained else [protocol.other_arrays(self.port, probe, base)]),
                *asked,
                protocol.after_dropout(self.port, probe),
            ]
        for found in asked:
            try:
                yield from (Cause(fault, words, probe.name) for fault, words in found)
            except (Exception, SystemExit) as error:
                yield Cause("crash", f"a second call: {in_words(error)}", probe.name)

    def _stage(self) -> str | None:
        """The first stage that parts from the reference, in the first probe in which any does."""
        for probe, answer in [*self.search.unexplained, *self.search.seen]:
            stages = (self.port.stages(probe) if offers(self.port.subject, "stages") else None) or {}
            for name in truth(probe):
                given = answer.get(name, stages.get(name))
                if given is not None and fit(self.search.base, probe, {name: given}) is None:
                    return name
        return None


UNSTEADY = ("not-repeatable", "dropout-in-evaluation")
