"""A port as diagnosis sees it: asked once for each probe, each time a new model with arrays of its own."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.faults.probes import Probe
from shared_tests.faults.variants import Arrays
from shared_tests.harness.asking import floating
from shared_tests.harness.errors import UnfitError, in_words
from shared_tests.harness.subject import offers


@dataclass
class Port:
    """A subject, and what it answered so far."""

    subject: Any
    answers: dict[Probe, Arrays] = field(default_factory=dict)
    errors: dict[Probe, str] = field(default_factory=dict)

    def ask(self, probe: Probe) -> Arrays | None:
        """Output, and attention weights if it returns any; None if it comes to an error, which is kept."""
        if probe not in self.answers and probe not in self.errors:
            try:
                self.answers[probe] = self.call(self.build(probe.trial), probe.trial)
            except (Exception, SystemExit) as error:
                self.errors[probe] = in_words(error)
        return self.answers.get(probe)

    def build(self, trial: Trial) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.subject.build(trial.config, deepcopy(trial.parameters), trial.dtype)

    def call(self, model: Any, trial: Trial) -> Arrays:
        """Copies of what `forward` returns for copies of the inputs."""
        return as_arrays(self.raw(model, *deepcopy(trial.inputs)))

    def raw(self, model: Any, *inputs: Any) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.subject.forward(model, *inputs)

    def stages(self, probe: Probe) -> Arrays | None:
        """Its stages, if it offers them."""
        if not offers(self.subject, "stages"):
            return None
        with np.errstate(all="ignore"):
            try:
                found = self.subject.stages(self.build(probe.trial), *deepcopy(probe.trial.inputs))
                return {name: np.array(array) for name, array in found.items()}
            except (Exception, SystemExit):
                return None


def as_arrays(result: Any) -> Arrays:
    """By "output" and "attention_weights", left out if there are none. Raises UnfitError for anything else."""
    if isinstance(result, tuple) and len(result) != 2:
        raise UnfitError(f"forward: expected (output, attention weights), got {len(result)} things")
    output, weights = result if isinstance(result, (tuple, list)) and len(result) == 2 else (result, None)
    answer = {"output": floating("forward", output)}
    if weights is not None:
        found = floating("forward", weights)
        if not found.size or not np.isnan(found).all():
            answer["attention_weights"] = found
    return answer


def same(left: Arrays, right: Arrays) -> bool:
    """Whether two answers are the same bits, a NaN being one with a NaN."""
    return left.keys() == right.keys() and all(np.array_equal(left[n], right[n], equal_nan=True) for n in left)
