"""What diagnosis says: causes, claims, an excerpt of the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_tests.faults.domain import Domain
from shared_tests.faults.fit import fit
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe, without_a_head
from shared_tests.faults.search import Search
from shared_tests.faults.variants import Arrays, Faults, gradients_of, of_gradients, truth
from shared_tests.harness.subject import Subject

STAGE = "first stage that parts"
ATTRIBUTES = "What it can be asked and does right, as attributes of the class:"


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong: the fault's id, or "" where none explains it, what was seen, and on what."""

    fault: str
    words: str
    probe: str = ""
    excerpt: str = ""

    def lines(self) -> Iterator[str]:
        yield f"{self.fault or 'unexplained'}: {self.words}"
        if self.probe:
            yield f"    in case: {self.probe}"
        if self.excerpt:
            yield f"    {self.excerpt}"


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about one subject."""

    subject: str
    claims: dict[str, Any]
    """The class attributes under which it would hold, as far as it can."""
    stage: str | None
    causes: list[Cause] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.causes

    @property
    def faults(self) -> list[str]:
        """The ids, likeliest first."""
        return list(dict.fromkeys(cause.fault for cause in self.causes if cause.fault))

    @property
    def words(self) -> str:
        if self.holds:
            return f"{self.subject}: nothing wrong was found"
        return "\n".join(line for cause in self.causes for line in cause.lines())

    def as_json(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "holds": self.holds,
            "claims": self.claims,
            "stage": self.stage,
            "faults": self.faults,
            "words": self.words,
        }


def of_search(search: Search, port: Port) -> list[Cause]:
    """The faults of the likeliest explanation, and what is left unexplained."""
    faults = search.left[0]
    worst, causes = search.worst(faults), []
    for fault in faults:
        others = " and ".join(other.id for other in faults if other is not fault)
        together = f" (together with {others})" if others else ""
        probe = search.shown[fault]
        answer = next(answer for seen, answer in search.seen if seen is probe)
        words = f"matches the oracle, every element within {worst:.1f}σ, when {fault.words}{together}"
        causes.append(Cause(fault.id, words, probe.name, excerpt(search.base, faults, probe, answer)))
    if search.unexplained:
        probe, answer = search.unexplained[0]
        causes.append(_unexplained(search.base + faults, probe, answer, len(search.unexplained)))
    return causes


def first_of_each(causes: Sequence[Cause]) -> list[Cause]:
    """The causes, but of each fault the first alone."""
    found: dict[str, Cause] = {}
    for cause in causes:
        found.setdefault(cause.fault or cause.words, cause)
    return [*found.values()]


def _unexplained(base: Faults, probe: Probe, answer: Arrays, count: int) -> Cause:
    """No variant fits; a NaN among right numbers is said to be one, and a shape that is another."""
    right = _owed(probe, base, answer)
    for name, given in answer.items():
        if given.shape != right[name].shape:
            words = f"the {_plain(name)} has shape {given.shape}, expected {right[name].shape}"
            return Cause("", words, probe.name)
        if np.isnan(given).any() and np.isfinite(right[name]).all():
            patched = np.where(np.isnan(given), right[name].astype(given.dtype), given)
            if fit(base, probe, {name: patched}):
                others = "" if np.isnan(given).all() else ", all others are right"
                words = f"{np.isnan(given).sum()} of {given.size} numbers of the {_plain(name)} are NaN{others}"
                return Cause("one-nan", words, probe.name)
    stages = ["attention_weights", *answer] if "attention_weights" in answer else list(answer)
    first = next((name for name in stages if fit(base, probe, {name: answer[name]}) is None), "output")
    more = f", and {count - 1} more" if count > 1 else ""
    words = f"the {_plain(first)} part first{more}; no fault of the catalogue, and no two, explain it"
    return Cause("", words, probe.name, excerpt((), base, probe, {first: answer[first]}))


def _plain(name: str) -> str:
    """The name of what was answered, in words."""
    return "attention weights" if name == "attention_weights" else name


def excerpt(base: Faults, faults: Faults, probe: Probe, answer: Arrays) -> str:
    """The element that is furthest from the reference: the port's, the reference's, and the variant's."""
    right, variant = _owed(probe, base, answer), _owed(probe, base + faults, answer)
    for name in ("attention_weights", "output", *answer):
        given = answer.get(name)
        if given is None or given.shape != right[name].shape or not given.size or fit(base, probe, {name: given}):
            continue
        distance = np.nan_to_num(np.abs(given - right[name]), nan=np.inf)
        place = tuple(int(i) for i in np.unravel_index(np.argmax(distance), given.shape))
        numbers = f"{name}{list(place)}: the port {given[place]:.9g}, the oracle {right[name][place]:.9g}"
        same_shape = variant[name].shape == given.shape and bool(faults)
        return numbers + (f", so changed {variant[name][place]:.9g}" if same_shape else "")
    return ""


def _owed(probe: Probe, faults: Faults, answer: Arrays) -> Arrays:
    """What the layer with these faults owes in place of this answer."""
    return gradients_of(probe, faults) if of_gradients(answer) else truth(probe, faults)


def claims_of(
    port: Port, domain: Domain, search: Search, causes: Sequence[Cause], lowest: float | None
) -> dict[str, Any]:
    """The attributes to paste: of each, what is right, and what it can be asked at all where nothing is."""
    ids = {cause.fault for cause in causes} | {fault.id for fault in search.base}
    own = search.base + tuple(f for f in search.left[0] if f.kind == "rows" or f.id == "attention-weights-averaged")

    def fitting(probes: dict[Any, Probe]) -> list[Any]:
        answers = {option: port.ask(probe) for option, probe in probes.items()}
        return [o for o, answer in answers.items() if answer and fit(own, probes[o], answer)]

    def right(probes: dict[Any, Probe]) -> list[Any]:
        return fitting(probes) or list(probes)

    dtypes = right({d: domain.probe(dtype=d) for d in domain.dtypes})
    dtype = dtypes[0]
    widths = right({w: domain.probe(widths=w, dtype=dtype) for w in domain.widths})
    one_x = "one x" in widths and "one width" not in widths and "distinct widths" not in widths
    width = next(w for w in ("one width", *widths) if w in widths)
    biases = right({b: domain.probe(bias=b, widths=width, dtype=dtype) for b in domain.biases})
    kinds = right({k: domain.probe(k, width, biases[-1], dtype) for k in domain.kinds})
    answer = port.ask(domain.probe())
    weights = "none" if answer is None or "attention_weights" not in answer else "per head"
    return {
        "dtypes": tuple(dtypes),
        "inputs": "self" if one_x else "any",
        "square": "distinct widths" not in widths,
        "bias": "any" if len(biases) == 2 else "always" if biases[0] else "never",
        "masks": tuple(kinds),
        "additive": port.subject.additive,
        "pruned": port.subject.pruned and bool(fitting({True: without_a_head(domain.probe())})),
        "empty": "empty-refused" not in ids and port.subject.empty,
        "attention_weights": "averaged" if "attention-weights-averaged" in ids else weights,
        "rows_without_key": _of_rows(port, ids, bool({"lengths", "lengths per query"} & set(kinds))),
        "lowest_score": lowest,
    }


def _of_rows(port: Port, ids: set[str], asked: bool) -> str:
    for fault, claim in (("uniform", "uniform"), ("zero", "zeros"), ("nan", "nan")):
        if f"empty-rows-{fault}" in ids:
            return claim
    if any(fault.startswith("empty-rows") or fault == "mask-added" for fault in ids):
        return "undefined"
    return str(port.subject.rows_without_key) if asked else Subject.rows_without_key


def as_attributes(claims: dict[str, Any], subject: Any) -> list[str]:
    """The lines to paste into the subject's class: those that say something else than it says now."""
    now = {name: getattr(subject, name, None) for name in claims}
    same = {name: (tuple(x) if isinstance(x, list) else x) == claims[name] for name, x in now.items()}
    return [f"{name} = {value!r}" for name, value in claims.items() if not same[name]]
