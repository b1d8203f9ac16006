"""Asking several subjects at once, each in a process of its own: Python in one process does one thing at a time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Lock
from typing import Any

from shared_tests.cases.case import Trial, draw
from shared_tests.harness.find import find
from shared_tests.harness.judge import OF_HEADS, judge, pairs
from shared_tests.harness.known import Finding
from shared_tests.harness.report import Answers, Report
from shared_tests.harness.rounding import Expected
from shared_tests.harness.truth import Expectations, Oracle, Truth

Question = tuple[str, tuple[Any, ...]]
"""What a process asks of the oracle: a method of `Oracle`, and its arguments, a trial by name, case and dtype."""


Work = Callable[..., Any]
"""work(oracle, *arguments): what a process does for one subject. It tells the oracle the name of each trial as it
begins, and what it returns is no string, no tuple and no exception."""


def judge_apart(
    names: Sequence[str],
    device: str | None,
    programs: Path | None,
    advance: Callable[[str], None],
    known: Path | None = None,
) -> Report:
    """Judges the subjects of these names on everything, as `judge` does; device and programs are those of `find`.

    Raises what finding a subject raises, and OSError if a process ends without a verdict.
    """
    oracle = Remembering()
    return _together(
        each_apart(_judge, {name: (name, device, programs, known) for name in names}, advance, oracle), oracle
    )


def each_apart(
    work: Work,
    arguments: Mapping[str, tuple[Any, ...]],
    advance: Callable[[str], None],
    oracle: Remembering | None = None,
) -> list[Any]:
    """What `work` returns for the arguments of each name, each in a process of its own.

    Raises what `work` raises, and OSError if a process ends without a result.
    """
    context, oracle = get_context("spawn"), oracle or Remembering()
    results: dict[str, Any] = {}
    waiting: dict[Any, str] = {}
    for name, given in arguments.items():
        mine, theirs = context.Pipe()
        context.Process(target=_run, args=(theirs, work, given), daemon=True).start()
        theirs.close()  # the other process has it: when that ends, so does the pipe
        waiting[mine] = name
    while waiting:
        ready: Any
        for ready in wait(list(waiting)):
            try:
                heard = ready.recv()
            except EOFError:
                raise OSError(f"{waiting[ready]}: expected a verdict, got none: its process ended") from None
            if isinstance(heard, Exception):
                raise heard
            if isinstance(heard, str):
                advance(heard)
            elif isinstance(heard, tuple):
                ready.send(oracle.answer(heard))
            else:
                results[waiting.pop(ready)] = heard
    return [results[name] for name in arguments]


class Remembering(Oracle):
    """The oracle of the process that the others ask, which computes everything once."""

    def __init__(self) -> None:
        self._answers: dict[Question, Any] = {}

    def answer(self, question: Question) -> Any:
        """What a method of the oracle says to these arguments."""
        if question not in self._answers:
            method, arguments = question
            if method == "of":
                name, case, dtype, *asked = arguments
                self._answers[question] = self.of(draw(name, case, dtype), *asked)
            else:
                self._answers[question] = self.of_training(*arguments)
        return self._answers[question]


class Asking(Oracle):
    """The oracle of a process that is judging: it asks the first process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, Lock()

    def of(self, trial: Trial, gradients: bool, heads: bool = False) -> Truth:
        return self._ask("of", trial.name, trial.case, trial.dtype, gradients, heads)

    def of_training(self, optimizer: str, dtype: str) -> list[tuple[Expected, Expectations]]:
        return self._ask("of_training", optimizer, dtype)

    def tell(self, message: Any) -> None:
        """Sends what is no question."""
        with self._lock:
            self._pipe.send(message)

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._lock:  # trials are judged in several threads
            self._pipe.send((method, arguments))
            return self._pipe.recv()


def _judge(oracle: Asking, name: str, device: str | None, programs: Path | None, known: Path | None) -> Report:
    return judge(find(name, device, programs), known=known, advance=oracle.tell, oracle=oracle)


def _run(pipe: Connection, work: Work, arguments: tuple[Any, ...]) -> None:
    """What a process does: its work, whose result it tells in the end, or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, and ends it
    oracle = Asking(pipe)
    try:
        oracle.tell(work(oracle, *arguments))
    except Exception as error:
        with suppress(OSError):  # the first process may be gone, and not listen
            oracle.tell(error)


def _together(reports: Sequence[Report], oracle: Remembering) -> Report:
    """One report of several, each on one subject, with every two of them compared."""
    names = [name for report in reports for name in report.subjects]
    findings = [finding for report in reports for finding in report.findings]
    about = {name: about for report in reports for name, about in report.about.items()}
    answers: Answers = {}
    for report in reports:
        for asked, answered in report.answers.items():
            answers.setdefault(asked, {}).update(answered)
    return Report(names, findings + list(_pairs(answers, oracle)), about, answers)


def _pairs(every: Answers, oracle: Remembering) -> Iterator[Finding]:
    for (name, case), answers in every.items():
        if len(answers) > 1:
            truth = oracle.answer(("of", (name, case, "float64", True, name in OF_HEADS)))
            yield from pairs(answers, truth, draw(name, case, "float64"))
