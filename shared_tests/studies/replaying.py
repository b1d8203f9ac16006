"""Causes: which fault of the catalogue explains what a subject answers now, if its answers left the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.faults.diagnosis import claimed, forward_variants
from shared_tests.faults.gradients import VARIANTS
from shared_tests.faults.probes import Probe
from shared_tests.faults.search import Search
from shared_tests.harness.rounding import Array
from shared_tests.studies.recorded import GRADIENT

MOST = 3
"""So many cases are explained at once, the smallest."""
Answers = Sequence[tuple[Trial, dict[str, Array]]]


def explained(subject: Any, answers: Answers) -> str:
    """What explains these answers, each to its trial: faults in words, or nothing if none does.

    The answers to a trial are outputs and attention weights, or a gradient.
    """
    small = sorted(answers, key=lambda one: sum(array.size for array in one[1].values()))[:MOST]
    gradient = any(name.startswith(GRADIENT) for name in small[0][1])
    variants = VARIANTS if gradient else forward_variants(subject)
    search = Search(variants, claimed(subject), pairs=0)
    with np.errstate(all="ignore"):  # faults make infinities and NaN
        fits = all(search.ask(Probe(trial.name, trial), found) for trial, found in small)
    return " and ".join(fault.words for fault in search.left[0]) if fits else ""
