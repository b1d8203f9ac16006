"""What results are compared with: the oracle's values and sigma, computed once for all subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared_tests.cases.case import Trial
from shared_tests.harness import oracle
from shared_tests.harness.rounding import Expected, Rounded
from shared_tests.harness.training import reference

Expectations = dict[str, Expected]
REMOVED = slice(None, None, 2)
"""The heads that clause 10.2 removes: every second, from the first."""


@dataclass(frozen=True)
class Truth:
    """Of one trial: every stage by name, and if they were asked for the gradients, by input and parameter."""

    stages: Expectations
    gradients: Expectations
    averaged: Expected
    """The attention weights averaged over heads, (batch, queries, keys)."""
    of_one_input: Expected | None = None
    """If queries, keys and values are one array, the gradient of that: the sum of the three."""
    importance: Expected | None = None
    """If clause group 10 is asked, that of each head, (heads,)."""
    pruned: Truth | None = None
    """If clause group 10 is asked, the truth on the trial without the heads REMOVED."""


class Oracle:
    """Where truth comes from. Another process may have one that asks this one (`apart`)."""

    def of(self, trial: Trial, gradients: bool, heads: bool = False) -> Truth:
        """The truth on a trial; heads: what clause group 10 compares with, too."""
        stages = oracle.forward(trial)
        averaged = (stages["attention_weights"].sum(axis=1) / trial.config.num_heads).expected
        if not gradients:
            return Truth(_expected(stages), {}, averaged)
        found = oracle.backward(trial, stages)
        one = trial.case is not None and trial.case.self_attention
        together = (found["queries"] + found["keys"] + found["values"]).expected if one else None
        truth = Truth(_expected(stages), _expected(found), averaged, together)
        if not heads:
            return truth
        of_rest = self.of(without_some_heads(trial), gradients)
        return replace(truth, importance=oracle.importance(trial, stages).expected, pruned=of_rest)

    def of_training(self, optimizer: str, dtype: str) -> list[tuple[Expected, Expectations]]:
        """The loss of every compared batch, and all parameters after its step."""
        return [(loss.expected, _expected(parameters)) for loss, parameters in reference(optimizer, dtype)]


def without_some_heads(trial: Trial) -> Trial:
    return trial.without_heads(range(trial.config.num_heads)[REMOVED])


def _expected(numbers: Mapping[str, Rounded]) -> Expectations:
    return {name: number.expected for name, number in numbers.items()}
