"""Clause group 10: how important a subject says that heads are, and its layer without some of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.asking import ask, floating
from shared_tests.harness.by_clause import Verdicts, of_answer, of_gradients, of_parameters
from shared_tests.harness.claimed import unchanged
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.subject import offers
from shared_tests.harness.truth import REMOVED, Truth, without_some_heads


def entries(trial: Trial) -> list[tuple[Array | None, ...]]:
    """Each entry as a batch of its own, for `head_importance`: (queries, keys, values, valid_lens, cotangent)."""
    arrays = (*deepcopy(trial).inputs, trial.cotangent.copy())
    return [tuple(None if x is None else x[i : i + 1] for x in arrays) for i in range(len(trial.queries))]


def importance(subject: Any, model: Any, trial: Trial, truth: Expected) -> Verdicts:
    """The importance of heads for sum(output * cotangent), each entry a batch of its own."""
    found = floating("head_importance", subject.head_importance(model, entries(trial)))
    yield "10.1", compare.within_gate(found, truth)


def without_heads(subject: Any, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    """The layer without the heads REMOVED: all that its own calls owe; and the whole layer stays as it was."""
    before, rest = ask(subject, model, deepcopy(trial)), without_some_heads(trial)
    pruned = subject.prune_heads(model, range(trial.config.num_heads)[REMOVED])
    parts = [of_answer(subject, ask(subject, pruned, deepcopy(rest)), rest, truth)]
    if offers(subject, "gradients"):
        parts.append(of_gradients(subject, pruned, deepcopy(rest), truth))
    if offers(subject, "export_weights"):
        parts.append(of_parameters(subject, pruned, rest))
    for clause, verdict in chain(*parts):
        yield "10.2", replace(verdict, what=f"{clause} {verdict.what}".rstrip())
    after = ask(subject, model, deepcopy(trial))
    yield "10.2", unchanged(after.output, before.output, "output of the whole layer")
