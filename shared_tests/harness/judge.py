"""The judge: runs subjects on cases beside the oracle and says, clause by clause, what holds.

pytest and the command line call the same `judge`. A clause that a subject cannot be asked, for
want of a capability, yields no finding and is reported as not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Trial, draw
from shared_tests.cases.refusals import REFUSALS
from shared_tests.cases.table import CASES, DIGITS
from shared_tests.harness import compare
from shared_tests.harness.asking import Answer, clauses, guarded, named
from shared_tests.harness.known import Finding, excuse
from shared_tests.harness.refusing import refuses
from shared_tests.harness.report import Report
from shared_tests.harness.rounding import to_format
from shared_tests.harness.subject import Subject, as_subject, claims, offers
from shared_tests.harness.training import RATES, compared_batches, initial_parameters
from shared_tests.harness.truth import Oracle, Truth

TRAININGS = tuple(product(RATES, ("float64", "float32")))
OF_DROPOUT = ("2.1", "2.2", "4.1", "4.2")
"""The clauses that on a case with dropout are reported as clause 8.3."""

Answers = dict[str, dict[str, Answer]]
"""By case and subject: the answers in float64."""
Part = Callable[[], list[Finding]]
"""A part of the work, which gives its findings."""


def judge(
    *subjects: Any,
    cases: Mapping[str, Case] | None = None,
    advance: Callable[[str], None] = lambda _: None,
    oracle: Oracle | None = None,
) -> Report:
    """Judges subjects on these cases, in every dtype that each claims; on everything there is if cases is None.

    `advance` hears of each trial and each training as it begins; `oracle` is where the truth comes from, if not from
    this process. A subject need not derive from `Subject`.
    """
    judged, answers, oracle = [as_subject(subject) for subject in subjects], Answers(), oracle or Oracle()
    parts = _trials(judged, CASES if cases is None else cases, oracle, answers, advance)
    if cases is None:
        parts = _trainings(judged, oracle, advance) + parts  # the longest first
        findings = excuse([f for subject in judged for f in _refusals(subject)] + _side_by_side(judged, parts))
    else:
        findings = _side_by_side(judged, parts)
    devices = {s.name: str(s.device) for s in judged if s.device}
    return Report([s.name for s in judged], findings, devices, answers)


def _trainings(subjects: Sequence[Subject], oracle: Oracle, advance: Callable[[str], None]) -> list[Part]:
    def part(optimizer: str, dtype: str) -> list[Finding]:
        advance(f"{optimizer}, {dtype}")
        return list(_training(subjects, oracle, optimizer, dtype))

    return [partial(part, *training) for training in TRAININGS]


def _trials(
    subjects: Sequence[Subject],
    cases: Mapping[str, Case],
    oracle: Oracle,
    answers: Answers,
    advance: Callable[[str], None],
) -> list[Part]:
    def part(name: str, dtype: str) -> list[Finding]:
        advance(f"{name}, {dtype}")
        able = [s for s in subjects if claims(s, cases[name], dtype)]
        return _judge_trial(able, oracle, draw(name, cases[name], dtype), answers)

    return [partial(part, name, dtype) for name, case in cases.items() for dtype in case.dtypes]


def _side_by_side(subjects: Sequence[Subject], parts: Sequence[Part]) -> list[Finding]:
    """The findings in the order of the parts, three at a time: a framework compiles while the oracle computes."""
    with ThreadPoolExecutor(3 if all(subject.concurrent for subject in subjects) else 1) as threads:
        return [finding for findings in threads.map(lambda part: part(), parts) for finding in findings]


def _refusals(subject: Subject) -> Iterator[Finding]:
    if offers(subject, "callable"):
        for row in REFUSALS:
            yield Finding("6", subject.name, "bad inputs", "", refuses(subject, row))


def _training(subjects: Iterable[Any], oracle: Oracle, optimizer: str, dtype: str) -> Iterator[Finding]:
    """Each subject's losses, and its parameters after every step, against the oracle of training."""
    able = [s for s in subjects if offers(s, "train") and dtype in s.dtypes]
    steps = oracle.of_training(optimizer, dtype) if able else []
    start = {name: to_format(array, dtype) for name, array in initial_parameters().items()}
    for subject in able:
        training = subject.train(DIGITS, start, compared_batches(), optimizer, RATES[optimizer], dtype)
        for step, ((loss, parameters), (true_loss, true_parameters)) in enumerate(zip(training, steps, strict=True), 1):
            clause, case = "8.1" if dtype == "float64" else "8.2", f"{optimizer}, step {step}"
            verdict = compare.within_gate(np.array(loss), true_loss)
            yield Finding(clause, subject.name, case, dtype, replace(verdict, what="loss"))
            for name, truth in true_parameters.items():
                yield Finding(clause, subject.name, case, dtype, named(name, parameters, truth))


def _judge_trial(subjects: Sequence[Subject], oracle: Oracle, trial: Trial, every: Answers) -> list[Finding]:
    """All clauses on one trial: each subject against the oracle, then every pair against each other."""
    if not subjects:
        return []
    truth = oracle.of(trial, gradients=any(offers(subject, "gradients") for subject in subjects))
    findings: list[Finding] = []
    answers: dict[str, Answer] = {}
    for subject in subjects:
        for clause, verdict in guarded("1.1", clauses(subject, trial, truth, answers)):
            of_dropout = trial.keep is not None and clause in OF_DROPOUT
            findings.append(Finding("8.3" if of_dropout else clause, subject.name, trial.name, trial.dtype, verdict))
    if answers:
        every[trial.name] = answers
    parties = {**answers, "oracle": Answer(*(truth.stages[stage].value for stage in ("output", "attention_weights")))}
    return findings + list(pairs(parties, truth, trial.name))


def pairs(parties: Mapping[str, Answer], truth: Truth, case: str) -> Iterator[Finding]:
    """Every two parties, in float64, on outputs and attention weights rounded to float32."""
    for left, right in combinations(parties, 2):
        for stage in ("output", "attention_weights"):
            arrays = getattr(parties[left], stage), getattr(parties[right], stage)
            verdict = compare.bit_identical(*arrays, truth.stages[stage])
            verdict = replace(verdict, what=f"{stage} of {left} and {right}")
            for name in (left, right):
                if name != "oracle":
                    yield Finding("2.3", name, case, "float64", verdict)
