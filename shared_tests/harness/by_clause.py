"""What each clause says of the arrays that one call of a subject returned, as far as the subject claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.asking import Answer, ask_gradients, by_name
from shared_tests.harness.claimed import are_nan, by_claim, like, named, shape_and_dtype
from shared_tests.harness.compare import Verdict
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.subject import Subject
from shared_tests.harness.truth import Truth

Verdicts = Iterator[tuple[str, Verdict]]
"""Clauses, and what they say."""


def of_answer(subject: Subject, answer: Answer, trial: Trial, truth: Truth) -> Verdicts:
    output, weights = truth.stages["output"], of_weights(subject, truth)
    yield "1.1", shape_and_dtype(answer.output, output, trial.dtype, "output")
    if subject.attention_weights != "none" and answer.attention_weights is not None:
        yield "1.1", shape_and_dtype(answer.attention_weights, weights, trial.dtype, "attention weights")
    yield "2.1", by_claim(answer.output, output, trial)
    if answer.attention_weights is not None and answer.attention_weights.shape == weights.value.shape:
        yield "2.2", by_claim(answer.attention_weights, weights, trial)
        yield from _of_weights(answer.attention_weights, weights, trial)


def of_weights(subject: Subject, truth: Truth) -> Expected:
    """What a subject's attention weights are compared with."""
    return truth.averaged if subject.attention_weights == "averaged" else truth.stages["attention_weights"]


def _of_weights(actual: Array, expected: Expected, trial: Trial) -> Verdicts:
    """Attention weights of the right shape: per head, or averaged."""
    lengths = like(trial.lengths, actual)[..., None]
    masked = np.broadcast_to((np.arange(actual.shape[-1]) >= lengths) & (lengths > 0), actual.shape)
    yield "3.1", compare.same_bits(actual[masked], np.zeros(masked.sum()), "masked weights")
    empty = like(trial.lengths, actual) == 0
    if trial.rows_without_key == "nan":
        yield "3.2", are_nan(actual[empty])
    elif trial.rows_without_key != "undefined":
        yield "3.2", compare.within_gate(actual[empty], expected[empty])
    summing = actual if trial.rows_without_key == "uniform" else actual[~empty]
    yield "2.4", compare.rows_sum_to_one(summing, trial.dtype)


def of_stages(subject: Any, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    stages = by_name("stages", subject.stages(model, *trial.inputs))
    of_rows = ("attention_weights", "context", "concatenation", "output")
    for name, expected in truth.stages.items():
        if name in of_rows and name in stages:
            yield "2.5", replace(by_claim(stages[name], expected, trial), what=name)
        else:
            yield "2.5", named(name, stages, expected)


def of_gradients(subject: Any, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    gradients, one_input = ask_gradients(subject, model, trial), subject.inputs == "self"
    for name, expected in _expected_gradients(truth, one_input).items():
        clause, actual = "4.2" if name in trial.parameters else "4.1", gradients.get(name)
        if actual is not None and actual.shape == expected.value.shape and trial.left_out.any():
            kept = with_key(name, trial, one_input)
            actual, expected = actual[kept], expected[kept]
        yield clause, named(name, {} if actual is None else {name: actual}, expected)
    untouched = unread_keys(trial) & (trial.lengths > 0).all(axis=1, keepdims=True)
    for x in () if one_input else ("keys", "values"):
        if untouched.any() and gradients.get(x, np.empty(0)).shape == getattr(trial, x).shape:
            zeros = np.zeros_like(gradients[x][untouched])
            yield "3.5", replace(compare.same_bits(gradients[x][untouched], zeros, x), what=x)


def _expected_gradients(truth: Truth, one_input: bool) -> dict[str, Expected]:
    if not one_input or truth.of_one_input is None:
        return truth.gradients
    kept = {name: gradient for name, gradient in truth.gradients.items() if name not in ("keys", "values")}
    return kept | {"queries": truth.of_one_input}


def with_key(name: str, trial: Trial, one_input: bool) -> Array:
    """Where a gradient has nothing of a row that is left out: all of a parameter's has."""
    has_key: Array = trial.lengths > 0
    if name in trial.parameters:
        return np.zeros((), bool)
    return has_key if name == "queries" and not one_input else np.asarray(has_key.all(axis=1))


def of_parameters(subject: Any, model: Any, trial: Trial) -> Verdicts:
    exported = subject.export_weights(model)
    for name, array in trial.parameters.items():
        yield "5.1", replace(compare.same_bits(exported.get(name, np.empty(0)), array, name), what=name)


def unread_keys(trial: Trial) -> Array:
    """(batch, keys): keys that no query with a valid key attends to."""
    reach = trial.lengths.max(axis=1, initial=0)
    return np.arange(trial.keys.shape[1]) >= reach[:, None]
