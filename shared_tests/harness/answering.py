"""What each clause of the contract says of one subject's answers to one trial, as far as the subject claims."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.asking import Answer, ask, ask_alone, ask_gradients, by_name
from shared_tests.harness.calling import calls, other_arrays
from shared_tests.harness.claimed import are_nan, by_claim, like, named, shape_and_dtype, unchanged
from shared_tests.harness.clauses import RAISES
from shared_tests.harness.compare import Verdict
from shared_tests.harness.errors import UnfitError, in_words, place
from shared_tests.harness.recovery import one_by_one, recovered
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.subject import Subject, offers
from shared_tests.harness.truth import Oracle, Truth

GARBAGE = 50.0
OF_CALLS = "book"
"""The case in which is asked what depends on no numbers, how calls and models keep apart: everybody is asked it."""
Verdicts = Iterator[tuple[str, Verdict]]
"""Clauses, and what they say."""


def guarded(clause: str, verdicts: Verdicts) -> Verdicts:
    """The verdicts, and what it raised if it comes to an error: a port may fail in any way.

    Of a port that returned what cannot be compared, `clause` does not hold.
    """
    try:
        yield from verdicts
    except UnfitError as error:
        yield clause, compare.failure(str(error))
    except (Exception, SystemExit) as error:
        yield RAISES, replace(compare.failure(in_words(error)), what=place(error))


def clauses(subject: Any, trial: Trial, truth: Truth, answers: dict[str, Answer]) -> Verdicts:
    """All clauses on one subject; its answer in float64 is kept for the pairs."""
    mine = deepcopy(trial)
    model = subject.build(trial.config, mine.parameters, trial.dtype)
    if trial.keep is not None:
        model = subject.with_mask(model, trial.keep)
    answer = ask(subject, model, mine)
    if subject.attention_weights == "none" and subject.inputs != "self":
        shown: list[Array | None] = []
        yield from guarded("2.2", _recovered(subject, trial, shown))
        answer = replace(answer, attention_weights=shown[0] if shown else None)
    yield from _of_answer(subject, answer, trial, truth)
    if trial.dtype == "float64":
        answers[subject.name] = answer
    yield from guarded("2.1", _turned(subject, model, trial, truth))
    if subject.live:
        yield from guarded("7.2", _again(subject, model, trial, mine, answer))
        if trial.name == OF_CALLS:
            yield from guarded("7.7", calls(subject, trial))
            if by_claim(answer.output, truth.stages["output"], trial).holds:  # else a wrong output would fail it too
                yield from guarded("7.8", other_arrays(subject, trial, truth))
    yield from guarded("3.4", _padded(subject, model, trial, answer))
    if trial.keep is None:
        yield from _more(subject, model, trial, truth, answer)
    if offers(subject, "gradients"):
        yield from guarded("4.1", _gradients(subject, model, deepcopy(trial), truth))
    if offers(subject, "export_weights"):
        yield from guarded("5.1", _parameters(subject, model, trial))


def _more(subject: Any, model: Any, trial: Trial, truth: Truth, answer: Answer) -> Verdicts:
    """What is asked only without dropout."""
    if offers(subject, "forward_alone"):
        yield from guarded("1.4", _alone(subject, model, deepcopy(trial), answer))
    if trial.dtype == "float64":
        if offers(subject, "stages"):
            yield from guarded("2.5", _stages(subject, model, deepcopy(trial), truth))
        if subject.attention_weights == "none" and subject.inputs == "self":
            yield from guarded("2.2", _one_by_one(subject, trial))


def _of_answer(subject: Subject, answer: Answer, trial: Trial, truth: Truth) -> Verdicts:
    output, weights = truth.stages["output"], of_weights(subject, truth)
    yield "1.1", shape_and_dtype(answer.output, output, trial.dtype, "output")
    if subject.attention_weights != "none" and answer.attention_weights is not None:
        yield "1.1", shape_and_dtype(answer.attention_weights, weights, trial.dtype, "attention weights")
    yield "2.1", by_claim(answer.output, output, trial)
    if answer.attention_weights is not None and answer.attention_weights.shape == weights.value.shape:
        yield "2.2", by_claim(answer.attention_weights, weights, trial)
        yield from _of_weights(answer.attention_weights, weights, trial)


def _recovered(subject: Any, trial: Trial, shown: list[Array | None]) -> Verdicts:
    """No verdict, but what outputs show of the attention weights, added to `shown`."""
    shown.append(recovered(subject, trial))
    yield from ()


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


def _turned(subject: Subject, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    """The entries of the batch in reverse: the same model owes them the same, whatever it was asked before."""
    if trial.keep is not None:
        return
    answer, weights = ask(subject, model, trial.reversed()), of_weights(subject, truth)
    verdict = by_claim(answer.output[::-1], truth.stages["output"], trial)
    yield "2.1", replace(verdict, what="entries reversed")
    if answer.attention_weights is not None and answer.attention_weights.shape == weights.value.shape:
        verdict = by_claim(answer.attention_weights[::-1], weights, trial)
        yield "2.2", replace(verdict, what="entries reversed")


def _again(subject: Subject, model: Any, trial: Trial, mine: Trial, answer: Answer) -> Verdicts:
    """Runs again: the same inputs give the same bits, and nothing was written to."""
    again = ask(subject, model, mine)
    yield "7.2", unchanged(again.output, answer.output, "output")
    if again.attention_weights is not None and answer.attention_weights is not None:
        yield "7.2", unchanged(again.attention_weights, answer.attention_weights, "attention weights")
    for x, given in _arrays(trial).items():
        yield "7.1", unchanged(_arrays(mine)[x], given, x)


def _padded(subject: Subject, model: Any, trial: Trial, answer: Answer) -> Verdicts:
    """With garbage in padding, the same bits."""
    padding = _padding(trial)
    if padding.any():
        rows, garbled = trial.lengths > 0, deepcopy(trial)
        garbled.keys[padding], garbled.values[padding] = GARBAGE, -GARBAGE
        if subject.inputs == "self":  # all three are one, and what is asked of padding is garbage too
            garbled.queries[padding] = garbled.values[padding] = GARBAGE
            rows = rows & ~padding
        output = ask(subject, model, garbled).output
        if output.shape[:2] == answer.output.shape[:2] == rows.shape:  # a wrong shape is for clause 1.1
            yield "3.4", unchanged(output[rows], answer.output[rows], "output")


def _arrays(trial: Trial) -> dict[str, Array]:
    """All that a subject is given."""
    inputs = {"queries": trial.queries, "keys": trial.keys, "values": trial.values}
    return trial.parameters | inputs | ({} if trial.valid_lens is None else {"valid_lens": trial.valid_lens})


def _padding(trial: Trial) -> Array:
    """(batch, keys): keys that no query with a valid key attends to."""
    reach = trial.lengths.max(axis=1, initial=0)
    return np.arange(trial.keys.shape[1]) >= reach[:, None]


def _alone(subject: Any, model: Any, trial: Trial, answer: Answer) -> Verdicts:
    """The output of a call that asks for no attention weights."""
    alone, rows = ask_alone(subject, model, trial), np.ones_like(trial.lengths, bool)
    if trial.rows_without_key == "undefined":
        rows = trial.lengths > 0
    same = alone.shape[:2] == answer.output.shape[:2] == rows.shape
    yield "1.4", unchanged(alone[rows], answer.output[rows], "output") if same else unchanged(alone, answer.output, "")


def _one_by_one(subject: Any, trial: Trial) -> Verdicts:
    """Outputs that are nearly attention weights, of a subject that gives none and takes one array."""
    for asked in one_by_one(trial):
        model = subject.build(asked.config, deepcopy(asked.parameters), asked.dtype)
        output, expected = ask(subject, model, deepcopy(asked)).output, Oracle().of(asked, False).stages["output"]
        yield "2.2", replace(by_claim(output, expected, asked), what="told from the output")
        if output.shape == expected.value.shape and asked.rows_without_key != "undefined":
            empty = asked.lengths == 0
            rows = output[empty]
            nan = asked.rows_without_key == "nan"
            yield "3.2", are_nan(rows) if nan else compare.within_gate(rows, expected[empty])


def _stages(subject: Any, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    stages = by_name("stages", subject.stages(model, *trial.inputs))
    of_rows = ("attention_weights", "context", "concatenation", "output")
    for name, expected in truth.stages.items():
        if name in of_rows and name in stages:
            yield "2.5", replace(by_claim(stages[name], expected, trial), what=name)
        else:
            yield "2.5", named(name, stages, expected)


def _gradients(subject: Any, model: Any, trial: Trial, truth: Truth) -> Verdicts:
    gradients, one_input = ask_gradients(subject, model, trial), subject.inputs == "self"
    for name, expected in _expected_gradients(truth, one_input).items():
        clause, actual = "4.2" if name in trial.parameters else "4.1", gradients.get(name)
        if actual is not None and actual.shape == expected.value.shape and trial.left_out.any():
            kept = with_key(name, trial, one_input)
            actual, expected = actual[kept], expected[kept]
        yield clause, named(name, {} if actual is None else {name: actual}, expected)
    untouched = _padding(trial) & (trial.lengths > 0).all(axis=1, keepdims=True)
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


def _parameters(subject: Any, model: Any, trial: Trial) -> Verdicts:
    exported = subject.export_weights(model)
    for name, array in trial.parameters.items():
        yield "5.1", replace(compare.same_bits(exported.get(name, np.empty(0)), array, name), what=name)
