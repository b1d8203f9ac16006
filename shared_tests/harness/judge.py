"""The judge: runs subjects on cases beside the oracle and says, clause by clause, what holds.

pytest and the command line call the same `judge`. A clause that a subject cannot be asked, for
want of a capability, yields no finding and is reported as not offered; one that it does not claim,
as not claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Trial, draw
from shared_tests.cases.refusals import REFUSALS
from shared_tests.cases.table import CASES, DIGITS, REAL
from shared_tests.harness import compare
from shared_tests.harness.answering import clauses, guarded
from shared_tests.harness.asking import Answer
from shared_tests.harness.claimed import like, named
from shared_tests.harness.claims import asked, in_words, masks_all
from shared_tests.harness.clauses import CAPABILITIES
from shared_tests.harness.compare import Verdict
from shared_tests.harness.find import option
from shared_tests.harness.known import Finding, excuse, read_known
from shared_tests.harness.refusing import refuses
from shared_tests.harness.report import About, Answers, Report
from shared_tests.harness.rounding import to_format
from shared_tests.harness.subject import Subject, as_subject, offers
from shared_tests.harness.training import RATES, compared_batches, initial_parameters
from shared_tests.harness.truth import Oracle, Truth

TRAININGS = tuple(product(RATES, ("float64", "float32")))
OF_DROPOUT = ("2.1", "2.2", "4.1", "4.2")
"""The clauses that on a case with dropout are reported as clause 8.3."""

OF_HEADS = ("book", "lengths per query", "zero lengths", "bias, lengths per query", "additive")
"""The cases on which clause group 10 is asked; the tests ask it of our packages on all."""

Part = Callable[[], list[Finding]]
"""A part of the work, which gives its findings."""


def judge(
    *subjects: Any,
    cases: Mapping[str, Case] | None = None,
    known: str | Path | None = None,
    advance: Callable[[str], None] = lambda _: None,
    oracle: Oracle | None = None,
) -> Report:
    """Judges subjects on these cases, in every dtype that each claims; on everything there is if cases is None.

    known: a file of differences that are known, of the subjects' own. `advance` hears of each trial and each training
    as it begins; `oracle` is where the truth comes from, if not from this process. A subject need not derive from
    `Subject`. Raises ValueError, in one line, for what cannot be judged.
    """
    judged, answers, oracle = [as_subject(subject) for subject in subjects], Answers(), oracle or Oracle()
    names = [subject.name for subject in judged]
    entries = [entry for entry in read_known(Path(known)) if entry.subject in ("any", *names)] if known else []
    parts = _trials(judged, CASES | REAL if cases is None else cases, oracle, answers, advance)
    if cases is None:
        parts = _trainings(judged, oracle, advance) + parts  # the longest first
        findings = excuse([f for subject in judged for f in _refusals(subject)] + _side_by_side(judged, parts))
    else:
        findings = _side_by_side(judged, parts)
    findings = excuse(findings, entries, Path(known or "").name)
    return Report(names, findings, {subject.name: _about(subject) for subject in judged}, answers)


def _about(subject: Any) -> About:
    capabilities = frozenset(name for name in CAPABILITIES.values() if offers(subject, name))
    return About(str(subject.device), in_words(subject), capabilities, option(subject))


def _trainings(subjects: Sequence[Subject], oracle: Oracle, advance: Callable[[str], None]) -> list[Part]:
    def part(optimizer: str, dtype: str) -> list[Finding]:
        advance(f"{optimizer}, {dtype}")
        return list(of_training(subjects, oracle, optimizer, dtype))

    return [partial(part, *training) for training in TRAININGS]


def _trials(
    subjects: Sequence[Subject],
    cases: Mapping[str, Case],
    oracle: Oracle,
    answers: Answers,
    advance: Callable[[str], None],
) -> list[Part]:
    put = {subject.name: asked(cases, subject) for subject in subjects}

    def part(name: str, dtype: str) -> list[Finding]:
        advance(f"{name}, {dtype}")
        groups: dict[Case, list[Subject]] = {}  # of those who are asked the same
        for subject in subjects:
            if name in put[subject.name] and dtype in subject.dtypes:
                groups.setdefault(put[subject.name][name], []).append(subject)
        found = [_judge_trial(able, oracle, draw(name, case, dtype), answers) for case, able in groups.items()]
        return [finding for findings in found for finding in findings]

    return [partial(part, name, dtype) for name, case in cases.items() for dtype in case.dtypes]


def _side_by_side(subjects: Sequence[Subject], parts: Sequence[Part]) -> list[Finding]:
    """The findings in the order of the parts, three at a time: a framework compiles while the oracle computes."""
    with ThreadPoolExecutor(3 if all(subject.concurrent for subject in subjects) else 1) as threads:
        return [finding for findings in threads.map(lambda part: part(), parts) for finding in findings]


def _refusals(subject: Subject) -> Iterator[Finding]:
    if offers(subject, "callable"):
        for row in REFUSALS:
            yield Finding("6", subject.name, "bad inputs", "", refuses(subject, row))


def of_training(subjects: Iterable[Any], oracle: Oracle, optimizer: str, dtype: str) -> Iterator[Finding]:
    """Each subject's losses, and its parameters after every step, against the oracle of training."""
    clause = "8.1" if dtype == "float64" else "8.2"
    for subject in subjects:
        if offers(subject, "train") and dtype in subject.dtypes:
            steps = _trained(subject, oracle, optimizer, dtype)
            for found, verdict in guarded(clause, ((clause, verdict) for _, verdict in steps)):
                yield Finding(found, subject.name, f"{optimizer}, 20 steps", dtype, verdict)


def _trained(subject: Any, oracle: Oracle, optimizer: str, dtype: str) -> Iterator[tuple[int, Verdict]]:
    """Of every step, what is to be said of the loss and of each parameter."""
    truth = oracle.of_training(optimizer, dtype)
    start = {name: to_format(array, dtype) for name, array in initial_parameters().items()}
    training = subject.train(DIGITS, start, compared_batches(), optimizer, RATES[optimizer], dtype)
    for step, ((loss, parameters), (true_loss, true_parameters)) in enumerate(zip(training, truth, strict=True), 1):
        yield step, replace(compare.within_gate(np.array(loss), true_loss), what=f"loss of step {step}")
        for name, expected in true_parameters.items():
            verdict = named(name, parameters, expected)
            yield step, replace(verdict, what=f"{name} of step {step}")


def _judge_trial(subjects: Sequence[Subject], oracle: Oracle, trial: Trial, every: Answers) -> list[Finding]:
    """All clauses on one trial: each subject against the oracle, then every pair against each other."""
    gradients = any(offers(subject, "gradients") for subject in subjects)
    truth = oracle.of(trial, gradients, heads=gradients and trial.name in OF_HEADS)
    findings: list[Finding] = []
    answers: dict[str, Answer] = {}
    for subject in subjects:
        if masks_all(subject, trial, truth.stages["scores"]):
            for clause, verdict in guarded("1.1", clauses(subject, trial, truth, answers)):
                of_dropout = trial.keep is not None and clause in OF_DROPOUT
                where = "8.3" if of_dropout else clause
                findings.append(Finding(where, subject.name, trial.name, trial.dtype, verdict))
    if answers and trial.case is not None:
        every[trial.name, trial.case] = answers
    parties = {**answers, "oracle": Answer(*(truth.stages[stage].value for stage in ("output", "attention_weights")))}
    return findings + list(pairs(parties, truth, trial))


def pairs(parties: Mapping[str, Answer], truth: Truth, trial: Trial) -> Iterator[Finding]:
    """Every two parties, in float64, on outputs and attention weights (if both have them) rounded to float32."""
    for left, right in combinations(parties, 2):
        for stage in ("output", "attention_weights"):
            expected, arrays = truth.stages[stage], [getattr(parties[name], stage) for name in (left, right)]
            if any(array is None or array.shape != expected.value.shape for array in arrays):
                continue  # a wrong shape is for clause 1.1
            kept = ~like(trial.left_out, expected.value)
            verdict = compare.bit_identical(arrays[0][kept], arrays[1][kept], expected[kept])
            verdict = replace(verdict, what=f"{stage} of {left} and {right}")
            for name in (left, right):
                if name != "oracle":
                    yield Finding("2.3", name, trial.name, "float64", verdict)
