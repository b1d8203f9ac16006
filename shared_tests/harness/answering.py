"""What each clause of the contract says of one subject's answers to one trial, as far as the subject claims."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.asking import Answer, ask, ask_alone
from shared_tests.harness.by_clause import (
    Verdicts,
    of_answer,
    of_gradients,
    of_parameters,
    of_stages,
    of_weights,
    unread_keys,
)
from shared_tests.harness.calling import calls, other_arrays
from shared_tests.harness.claimed import are_nan, by_claim, unchanged
from shared_tests.harness.clauses import RAISES
from shared_tests.harness.errors import UnfitError, in_words, place
from shared_tests.harness.pruning import importance, without_heads
from shared_tests.harness.recovery import one_by_one, recovered
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject, offers
from shared_tests.harness.truth import Oracle, Truth

GARBAGE = 50.0
OF_CALLS = "book"
"""The case in which is asked what depends on no numbers, how calls and models keep apart: everybody is asked it."""


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
    yield from of_answer(subject, answer, trial, truth)
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
        yield from guarded("4.1", of_gradients(subject, model, deepcopy(trial), truth))
    if offers(subject, "export_weights"):
        yield from guarded("5.1", of_parameters(subject, model, trial))


def _more(subject: Any, model: Any, trial: Trial, truth: Truth, answer: Answer) -> Verdicts:
    """What is asked only without dropout."""
    if offers(subject, "forward_alone"):
        yield from guarded("1.4", _alone(subject, model, deepcopy(trial), answer))
    if offers(subject, "head_importance") and truth.importance is not None:
        yield from guarded("10.1", importance(subject, model, trial, truth.importance))
    if offers(subject, "prune_heads") and truth.pruned is not None:
        yield from guarded("10.2", without_heads(subject, model, trial, truth.pruned))
    if trial.dtype == "float64":
        if offers(subject, "stages"):
            yield from guarded("2.5", of_stages(subject, model, deepcopy(trial), truth))
        if subject.attention_weights == "none" and subject.inputs == "self":
            yield from guarded("2.2", _one_by_one(subject, trial))


def _recovered(subject: Any, trial: Trial, shown: list[Array | None]) -> Verdicts:
    """No verdict, but what outputs show of the attention weights, added to `shown`."""
    shown.append(recovered(subject, trial))
    yield from ()


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
    padding = unread_keys(trial)
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
