"""Asking: what one subject answers to one trial, and what each clause of the contract says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.compare import Verdict
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.subject import Subject, in_words, offers
from shared_tests.harness.truth import Truth

GARBAGE = 50.0


@dataclass(frozen=True)
class Answer:
    """What a subject returned for a trial."""

    output: Array
    attention_weights: Array


def guarded(clause: str, verdicts: Iterator[tuple[str, Verdict]]) -> Iterator[tuple[str, Verdict]]:
    """The verdicts, and a failure of `clause` if it comes to an error: a port may fail in any way."""
    try:
        yield from verdicts
    except (Exception, SystemExit) as error:
        yield clause, compare.failure(in_words(error))


def clauses(subject: Any, trial: Trial, truth: Truth, answers: dict[str, Answer]) -> Iterator[tuple[str, Verdict]]:
    """All clauses on one subject; its answer in float64 is kept for the pairs."""
    mine = deepcopy(trial)
    model = subject.build(trial.config, mine.parameters, trial.dtype)
    if trial.keep is not None:
        model = subject.with_mask(model, trial.keep)
    answer = ask(subject, model, mine)
    yield from _answer_clauses(answer, trial, truth)
    if trial.dtype == "float64":
        answers[subject.name] = answer
    yield from _turned_clauses(subject, model, trial, truth)
    yield from _repeat_clauses(subject, model, trial, mine, answer)
    if offers(subject, "stages") and trial.dtype == "float64" and trial.keep is None:
        yield from guarded("2.5", _stage_clauses(subject, model, deepcopy(trial), truth))
    if offers(subject, "gradients"):
        yield from guarded("4.1", _gradient_clauses(subject, model, deepcopy(trial), truth))
    if offers(subject, "export_weights"):
        yield from _parameter_clauses(subject, model, trial)


def ask(subject: Subject, model: Any, trial: Trial) -> Answer:
    """Calls `forward`; raises ValueError unless it returns a pair of floating arrays."""
    result = subject.forward(model, *trial.inputs)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ValueError(f"forward: expected (output, attention weights), got {type(result).__name__}")
    return Answer(*(_floating("forward", array) for array in result))


def ask_gradients(subject: Any, model: Any, trial: Trial) -> dict[str, Array]:
    """Calls `gradients`; raises ValueError unless it returns floating arrays by name."""
    return _by_name("gradients", subject.gradients(model, *trial.inputs, trial.cotangent))


def _by_name(method: str, result: Any) -> dict[str, Array]:
    if not isinstance(result, Mapping):
        raise ValueError(f"{method}: expected {{name: array}}, got {type(result).__name__}")
    return {name: _floating(f"{method}: {name}", array) for name, array in result.items()}


def _floating(what: str, array: Any) -> Array:
    array = np.array(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{what}: expected an array of floating numbers, got {array.dtype}")
    return array


def _answer_clauses(answer: Answer, trial: Trial, truth: Truth) -> Iterator[tuple[str, Verdict]]:
    output, weights = truth.stages["output"], truth.stages["attention_weights"]
    yield "1.1", compare.shape_and_dtype(answer.output, output.value.shape, trial.dtype)
    yield "1.1", compare.shape_and_dtype(answer.attention_weights, weights.value.shape, trial.dtype)
    yield "2.1", compare.within_gate(answer.output, output)
    yield "2.2", compare.within_gate(answer.attention_weights, weights)
    if answer.attention_weights.shape != weights.value.shape:
        return
    yield "2.4", compare.rows_sum_to_one(answer.attention_weights, trial.dtype)
    lengths = trial.lengths[:, None, :, None]  # against (batch, heads, queries, keys)
    masked = np.broadcast_to((np.arange(trial.keys.shape[1]) >= lengths) & (lengths > 0), weights.value.shape)
    yield "3.1", compare.same_bits(answer.attention_weights[masked], np.zeros(masked.sum()), "masked weights")
    uniform = np.broadcast_to(lengths == 0, weights.value.shape)
    yield "3.2", compare.within_gate(answer.attention_weights[uniform], weights[uniform])


def _turned_clauses(subject: Subject, model: Any, trial: Trial, truth: Truth) -> Iterator[tuple[str, Verdict]]:
    """The entries of the batch in reverse: the same model owes them the same, whatever it was asked before."""
    if trial.keep is not None:
        return
    turned = replace(
        trial,
        **{x: getattr(trial, x)[::-1].copy() for x in ("queries", "keys", "values")},
        valid_lens=None if trial.valid_lens is None else trial.valid_lens[::-1].copy(),
    )
    answer = ask(subject, model, turned)
    for clause, stage in (("2.1", "output"), ("2.2", "attention_weights")):
        yield (
            clause,
            replace(compare.within_gate(getattr(answer, stage)[::-1], truth.stages[stage]), what="entries reversed"),
        )


def _repeat_clauses(
    subject: Subject, model: Any, trial: Trial, mine: Trial, answer: Answer
) -> Iterator[tuple[str, Verdict]]:
    """Runs again: the same inputs give the same bits, garbage in padding too, and nothing was written to."""
    again = ask(subject, model, mine)
    yield "7.2", compare.same_bits(again.output, answer.output, "output run again")
    yield "7.2", compare.same_bits(again.attention_weights, answer.attention_weights, "attention weights run again")
    for x, given in _arrays(trial).items():
        yield "7.1", compare.same_bits(_arrays(mine)[x], given, x)
    padding = _padding(trial)
    if padding.any():
        garbled = deepcopy(trial)
        garbled.keys[padding], garbled.values[padding] = GARBAGE, -GARBAGE
        rows = trial.lengths > 0
        output = ask(subject, model, garbled).output[rows]
        yield "3.4", compare.same_bits(output, answer.output[rows], "output with garbage in padding")


def _arrays(trial: Trial) -> dict[str, Array]:
    """All that a subject is given."""
    inputs = {"queries": trial.queries, "keys": trial.keys, "values": trial.values}
    return trial.parameters | inputs | ({} if trial.valid_lens is None else {"valid_lens": trial.valid_lens})


def _padding(trial: Trial) -> Array:
    """(batch, keys): keys that no query with a valid key attends to."""
    reach = trial.lengths.max(axis=1, initial=0)
    return np.arange(trial.keys.shape[1]) >= reach[:, None]


def _stage_clauses(subject: Any, model: Any, trial: Trial, truth: Truth) -> Iterator[tuple[str, Verdict]]:
    stages = _by_name("stages", subject.stages(model, *trial.inputs))
    for name, expected in truth.stages.items():
        yield "2.5", named(name, stages, expected)


def _gradient_clauses(subject: Any, model: Any, trial: Trial, truth: Truth) -> Iterator[tuple[str, Verdict]]:
    gradients = ask_gradients(subject, model, trial)
    for name, gradient in truth.gradients.items():
        yield "4.2" if name in trial.parameters else "4.1", named(name, gradients, gradient)
    untouched = _padding(trial) & (trial.lengths > 0).all(axis=1, keepdims=True)
    for x in ("keys", "values"):
        if untouched.any() and gradients.get(x, np.empty(0)).shape == getattr(trial, x).shape:
            zeros = np.zeros_like(gradients[x][untouched])
            yield "3.5", compare.same_bits(gradients[x][untouched], zeros, f"gradient of masked {x}")


def _parameter_clauses(subject: Any, model: Any, trial: Trial) -> Iterator[tuple[str, Verdict]]:
    exported = subject.export_weights(model)
    for name, array in trial.parameters.items():
        yield "5.1", compare.same_bits(exported.get(name, np.empty(0)), array, name)


def named(name: str, arrays: Mapping[str, Array], truth: Expected) -> Verdict:
    if name not in arrays:
        return replace(compare.failure("missing"), what=name)
    return replace(compare.within_gate(arrays[name], truth), what=name)
