"""What results are compared with: the oracle's values and sigma, computed once for all subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared_tests.cases.case import Trial
from shared_tests.harness import oracle
from shared_tests.harness.rounding import Expected, Rounded
from shared_tests.harness.training import reference

Expectations = dict[str, Expected]


@dataclass(frozen=True)
class Truth:
    """Of one trial: every stage by name, and if they were asked for the gradients, by input and parameter."""

    stages: Expectations
    gradients: Expectations


class Oracle:
    """Where truth comes from. Another process may have one that asks this one (`apart`)."""

    def of(self, trial: Trial, gradients: bool) -> Truth:
        """The truth on a trial."""
        stages = oracle.forward(trial)
        return Truth(_expected(stages), _expected(oracle.backward(trial, stages)) if gradients else {})

    def of_training(self, optimizer: str, dtype: str) -> list[tuple[Expected, Expectations]]:
        """The loss of every compared batch, and all parameters after its step."""
        return [(loss.expected, _expected(parameters)) for loss, parameters in reference(optimizer, dtype)]


def _expected(numbers: Mapping[str, Rounded]) -> Expectations:
    return {name: number.expected for name, number in numbers.items()}
