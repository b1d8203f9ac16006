"""The judge: runs subjects on cases beside the oracle and says, clause by clause, what holds.

pytest and the command line call the same `judge`. A clause that a subject cannot be asked, for
want of a capability, yields no finding and is reported as not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Trial, draw
from shared_tests.cases.refusals import REFUSALS
from shared_tests.cases.table import CASES, DIGITS
from shared_tests.harness import compare, oracle
from shared_tests.harness.compare import Verdict
from shared_tests.harness.known import Finding, excuse
from shared_tests.harness.refusing import refuses
from shared_tests.harness.report import Report
from shared_tests.harness.rounding import Array, Rounded, to_format
from shared_tests.harness.subject import Subject, as_subject, claims, in_words, offers
from shared_tests.harness.training import RATES, compared_batches, initial_parameters, reference

TRAININGS = tuple(product(RATES, ("float64", "float32")))
OF_DROPOUT = ("2.1", "2.2", "4.1", "4.2")
"""The clauses that on a case with dropout are reported as clause 8.3."""
GARBAGE = 50.0

Part = Callable[[], list[Finding]]
"""A part of the work, which gives its findings."""


@dataclass(frozen=True)
class Answer:
    """What a subject returned for a trial."""

    output: Array
    attention_weights: Array


def judge(
    *subjects: Any, cases: Mapping[str, Case] | None = None, advance: Callable[[str], None] = lambda _: None
) -> Report:
    """Judges subjects on these cases, in every dtype that each claims; on everything there is if cases is None.

    `advance` hears of each trial and each training as it begins. A subject need not derive from `Subject`.
    """
    judged = [as_subject(subject) for subject in subjects]
    parts = _trials(judged, CASES if cases is None else cases, advance)
    if cases is None:
        parts = _trainings(judged, advance) + parts  # the longest first
        findings = excuse([f for subject in judged for f in _refusals(subject)] + _side_by_side(judged, parts))
    else:
        findings = _side_by_side(judged, parts)
    devices = {s.name: str(s.device) for s in judged if s.device}
    return Report([s.name for s in judged], findings, devices)


def _trainings(subjects: Sequence[Subject], advance: Callable[[str], None]) -> list[Part]:
    def part(optimizer: str, dtype: str) -> list[Finding]:
        advance(f"{optimizer}, {dtype}")
        return list(_training(subjects, optimizer, dtype))

    return [partial(part, *training) for training in TRAININGS]


def _trials(subjects: Sequence[Subject], cases: Mapping[str, Case], advance: Callable[[str], None]) -> list[Part]:
    def part(name: str, dtype: str) -> list[Finding]:
        advance(f"{name}, {dtype}")
        able = [s for s in subjects if claims(s, cases[name], dtype)]
        return _judge_trial(able, draw(name, cases[name], dtype))

    return [partial(part, name, dtype) for name, case in cases.items() for dtype in case.dtypes]


def _side_by_side(subjects: Sequence[Subject], parts: Sequence[Part]) -> list[Finding]:
    """The findings in the order of the parts, three at a time: a framework compiles while the oracle computes."""
    with ThreadPoolExecutor(3 if all(subject.concurrent for subject in subjects) else 1) as threads:
        return [finding for findings in threads.map(lambda part: part(), parts) for finding in findings]


def _refusals(subject: Subject) -> Iterator[Finding]:
    if offers(subject, "callable"):
        for row in REFUSALS:
            yield Finding("6", subject.name, "bad inputs", "", refuses(subject, row))


def _training(subjects: Iterable[Any], optimizer: str, dtype: str) -> Iterator[Finding]:
    """Each subject's losses, and its parameters after every step, against the oracle of training."""
    able = [s for s in subjects if offers(s, "train") and dtype in s.dtypes]
    steps = list(reference(optimizer, dtype)) if able else []
    start = {name: to_format(array, dtype) for name, array in initial_parameters().items()}
    for subject in able:
        training = subject.train(DIGITS, start, compared_batches(), optimizer, RATES[optimizer], dtype)
        for step, ((loss, parameters), (true_loss, true_parameters)) in enumerate(zip(training, steps, strict=True), 1):
            clause, case = "8.1" if dtype == "float64" else "8.2", f"{optimizer}, step {step}"
            verdict = compare.within_gate(np.array(loss), true_loss)
            yield Finding(clause, subject.name, case, dtype, replace(verdict, what="loss"))
            for name, truth in true_parameters.items():
                yield Finding(clause, subject.name, case, dtype, _named(name, parameters, truth))


def _judge_trial(subjects: Iterable[Subject], trial: Trial) -> list[Finding]:
    """All clauses on one trial: each subject against the oracle, then every pair against each other."""
    truth = oracle.forward(trial)
    findings: list[Finding] = []
    answers: dict[str, Answer] = {}
    for subject in subjects:
        for clause, verdict in _guarded("1.1", _clauses(subject, trial, truth, answers)):
            of_dropout = trial.keep is not None and clause in OF_DROPOUT
            findings.append(Finding("8.3" if of_dropout else clause, subject.name, trial.name, trial.dtype, verdict))
    return findings + list(_pairs(answers, truth, trial))


def _guarded(clause: str, verdicts: Iterator[tuple[str, Verdict]]) -> Iterator[tuple[str, Verdict]]:
    """The verdicts, and a failure of `clause` if it comes to an error: a port may fail in any way."""
    try:
        yield from verdicts
    except (Exception, SystemExit) as error:
        yield clause, compare.failure(in_words(error))


def _clauses(
    subject: Any, trial: Trial, truth: oracle.Stages, answers: dict[str, Answer]
) -> Iterator[tuple[str, Verdict]]:
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
        yield from _guarded("2.5", _stage_clauses(subject, model, deepcopy(trial), truth))
    if offers(subject, "gradients"):
        yield from _guarded("4.1", _gradient_clauses(subject, model, deepcopy(trial), truth))
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


def _answer_clauses(answer: Answer, trial: Trial, truth: oracle.Stages) -> Iterator[tuple[str, Verdict]]:
    output, weights = truth["output"], truth["attention_weights"]
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


def _turned_clauses(subject: Subject, model: Any, trial: Trial, truth: oracle.Stages) -> Iterator[tuple[str, Verdict]]:
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
        yield clause, replace(compare.within_gate(getattr(answer, stage)[::-1], truth[stage]), what="entries reversed")


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


def _stage_clauses(subject: Any, model: Any, trial: Trial, truth: oracle.Stages) -> Iterator[tuple[str, Verdict]]:
    stages = _by_name("stages", subject.stages(model, *trial.inputs))
    for name in truth:
        yield "2.5", _named(name, stages, truth[name])


def _gradient_clauses(subject: Any, model: Any, trial: Trial, truth: oracle.Stages) -> Iterator[tuple[str, Verdict]]:
    gradients = ask_gradients(subject, model, trial)
    for name, gradient in oracle.backward(trial, truth).items():
        yield "4.2" if name in trial.parameters else "4.1", _named(name, gradients, gradient)
    untouched = _padding(trial) & (trial.lengths > 0).all(axis=1, keepdims=True)
    for x in ("keys", "values"):
        if untouched.any() and gradients.get(x, np.empty(0)).shape == getattr(trial, x).shape:
            zeros = np.zeros_like(gradients[x][untouched])
            yield "3.5", compare.same_bits(gradients[x][untouched], zeros, f"gradient of masked {x}")


def _parameter_clauses(subject: Any, model: Any, trial: Trial) -> Iterator[tuple[str, Verdict]]:
    exported = subject.export_weights(model)
    for name, array in trial.parameters.items():
        yield "5.1", compare.same_bits(exported.get(name, np.empty(0)), array, name)


def _named(name: str, arrays: Mapping[str, Array], truth: Rounded) -> Verdict:
    if name not in arrays:
        return replace(compare.failure("missing"), what=name)
    return replace(compare.within_gate(arrays[name], truth), what=name)


def _pairs(answers: Mapping[str, Answer], truth: oracle.Stages, trial: Trial) -> Iterator[Finding]:
    """Every two subjects, and each with the oracle, on outputs and weights rounded to float32."""
    parties = {**answers, "oracle": Answer(truth["output"].value, truth["attention_weights"].value)}
    for left, right in combinations(parties, 2):
        for stage in ("output", "attention_weights"):
            arrays = getattr(parties[left], stage), getattr(parties[right], stage)
            verdict = compare.bit_identical(*arrays, truth[stage])
            verdict = replace(verdict, what=f"{stage} of {left} and {right}")
            for name in (left, right):
                if name != "oracle":
                    yield Finding("2.3", name, trial.name, trial.dtype, verdict)
