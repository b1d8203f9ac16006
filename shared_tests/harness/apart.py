"""Judging several subjects at once, each in a process of its own: Python in one process does one thing at a time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.harness import oracle
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge, pairs
from shared_tests.harness.known import Finding
from shared_tests.harness.report import Report


def judge_apart(
    names: Sequence[str], device: str | None, programs: Path | None, advance: Callable[[str], None]
) -> Report:
    """Judges the subjects of these names on everything, as `judge` does; device and programs as for `find`.

    Raises what finding a subject raises, and OSError if a process ends without a verdict.
    """
    context, reports = get_context("spawn"), {}
    waiting: dict[Any, str] = {}
    for name in names:
        receiver, sender = context.Pipe(duplex=False)
        context.Process(target=_judge, args=(sender, name, device, programs), daemon=True).start()
        sender.close()  # the other process has it: when that ends, so does the pipe
        waiting[receiver] = name
    while waiting:
        ready: Any
        for ready in wait(list(waiting)):
            try:
                heard = ready.recv()
            except EOFError:
                raise OSError(f"{waiting[ready]}: expected a verdict, got none: its process ended") from None
            if isinstance(heard, Exception):
                raise heard
            if isinstance(heard, Report):
                reports[waiting.pop(ready)] = heard
            else:
                advance(heard)
    return _together([reports[name] for name in names])


def _judge(sender: Connection, name: str, device: str | None, programs: Path | None) -> None:
    """What a process does: sends each trial's name as it begins, and in the end a report or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, and ends it
    try:
        sender.send(judge(find(name, device, programs), advance=sender.send))
    except Exception as error:
        sender.send(error)


def _together(reports: Sequence[Report]) -> Report:
    """One report of several, each on one subject, with every two of them compared."""
    names = [name for report in reports for name in report.subjects]
    findings = [finding for report in reports for finding in report.findings]
    devices = {name: device for report in reports for name, device in report.devices.items()}
    return Report(names, findings + list(_pairs(reports)), devices)


def _pairs(reports: Sequence[Report]) -> Iterator[Finding]:
    for case in CASES:
        answers = {name: answer for report in reports for name, answer in report.answers.get(case, {}).items()}
        if len(answers) > 1:
            yield from pairs(answers, oracle.forward(draw(case, CASES[case], "float64")), case)
