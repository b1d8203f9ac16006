"""Causes: which fault of the catalogue explains the answers of a subject that lie outside the gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.faults.diagnosis import claimed, forward_variants
from shared_tests.faults.fault import Fault
from shared_tests.faults.gradients import VARIANTS
from shared_tests.faults.layer import PROJECTIONS
from shared_tests.faults.probes import Probe
from shared_tests.faults.search import Search
from shared_tests.harness.rounding import Array
from shared_tests.studies.recorded import GRADIENT

MOST = 3
"""So many cases are explained at once, the smallest."""
LARGEST = 10_000
"""So many numbers the answers to a case may have that the whole catalogue is replayed on: for more it takes minutes."""
Answers = dict[str, Array]
Of = tuple[Trial, Answers]
"""Answers, and what they are to."""


@dataclass(frozen=True)
class Stray:
    """All gradients, or the output and attention weights, that a subject answered to a trial, and the names of those
    that lie outside the gate."""

    trial: Trial
    answers: Answers
    outside: frozenset[str]


def explanations(subject: Any, strays: Sequence[Stray]) -> Iterator[tuple[str, str]]:
    """What explains these answers, ("outputs", "gradients" or an array, the fault in words); nothing if no fault does.

    Gradients that no one fault explains together are explained one array at a time. Where all answers are large, only
    the gradients of parameters are explained, each by what can be wrong in the one product that makes it.
    """
    small = [stray for stray in strays if _numbers(stray.answers) <= LARGEST]
    yield from _of_catalogue(subject, small) if small else _of_products(subject, strays)


def _of_catalogue(subject: Any, strays: Sequence[Stray]) -> Iterator[tuple[str, str]]:
    gradients = any(name.startswith(GRADIENT) for name in strays[0].answers)
    variants = VARIANTS if gradients else forward_variants(subject)
    if words := _explained(subject, variants, [(stray.trial, _shown(subject, stray.answers)) for stray in strays]):
        yield "gradients" if gradients else "outputs", words
    elif gradients:
        for name, answers in _by_array(subject, strays):
            if words := _explained(subject, variants, answers):
                yield name, words


def _of_products(subject: Any, strays: Sequence[Stray]) -> Iterator[tuple[str, str]]:
    for name, answers in _by_array(subject, strays):
        variants = [fault for fault in VARIANTS if f"product {name.removesuffix('.weight')}" in fault.changes]
        if variants and (words := _explained(subject, variants, answers)):
            yield name, words


def _by_array(subject: Any, strays: Sequence[Stray]) -> Iterator[tuple[str, list[Of]]]:
    """Each array that lies outside the gate somewhere, with the trials in which it does."""
    for name in sorted({name for stray in strays for name in _shown(subject, stray.answers) if name in stray.outside}):
        yield name, [(stray.trial, {name: stray.answers[name]}) for stray in strays if name in stray.outside]


def _shown(subject: Any, answers: Answers) -> Answers:
    """The answers that variants have: of one input in three places there is but the sum of its gradients."""
    summed = {GRADIENT + x for x in PROJECTIONS} if subject.inputs == "self" else set()
    return {name: array for name, array in answers.items() if name not in summed}


def _explained(subject: Any, variants: Sequence[Fault], answers: Sequence[Of]) -> str:
    small = sorted(answers, key=lambda one: _numbers(one[1]))[:MOST]
    search = Search(variants, claimed(subject), pairs=0)
    with np.errstate(all="ignore"):  # faults make infinities and NaN
        fits = all(search.ask(Probe(trial.name, trial), found) for trial, found in small)
    return " and ".join(fault.words for fault in search.left[0]) if fits else ""


def _numbers(answers: Answers) -> int:
    return sum(array.size for array in answers.values())
