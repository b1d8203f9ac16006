"""What the tests of docs/devices.md share: its blocks, the layer that these are given, and how the page is held."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests.cases.case import Case, draw
from shared_tests.cases.table import EIGHT_HEADS
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.rounding import Expected

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "devices.md").read_text()
HOSTS = "first", "second"
LENGTHS = tuple(tuple(min(query + entry + 1, 12) for query in range(8)) for entry in range(4))
CASE = Case(EIGHT_HEADS, batch=4, queries=8, keys=12, valid_lens=LENGTHS)


@pytest.fixture(scope="session")
def blocks():
    """Finds what a tab has under a heading, or the whole page: the blocks of a language."""

    def find(tab, heading=None, language="python"):
        text = (
            PAGE if heading is None else re.search(rf"^## {heading}$.*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[0]
        )
        items = "".join(re.findall(rf"^:sync: {tab}$(.*?)^:::$", text, re.DOTALL | re.MULTILINE))
        return re.findall(rf"^```{language}$\n(.*?)^```$", items, re.DOTALL | re.MULTILINE)

    return find


@pytest.fixture(scope="session")
def page():
    """The text of the page, as one line."""
    return " ".join(PAGE.split())


@pytest.fixture(scope="session")
def row():
    """The cells of a row of the page's tables, by what its first cell is."""

    def find(first):
        (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", PAGE, re.MULTILINE)
        return [cell.strip() for cell in line.split("|")]

    return find


@pytest.fixture(scope="session")
def in_words():
    """What was sent, as the page writes it, of {kind: times}."""

    def join(counts):
        return ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items() if n) or "nothing"

    return join


@pytest.fixture(scope="session")
def sends(row, in_words):
    """Holds a row of the page to what was sent forward, and in a whole step."""

    def compare(first, forward, step):
        backward = {kind: n - forward.get(kind, 0) for kind, n in step.items()}
        assert [in_words(forward), in_words(backward)] == row(first)[:2]

    return compare


@pytest.fixture(params=["float64", "float32"])
def trial(request):
    return draw("devices", CASE, request.param)


@pytest.fixture(scope="session")
def holds():
    """Compares an output, and gradients of all parameters and inputs, with the oracle; the worst of either in sigma."""

    def compare(trial, output, gradients):
        stages = oracle.forward(trial)
        exact = oracle.backward(trial, stages)
        queries = trial.cotangent.shape[0] * trial.cotangent.shape[1]  # a power of 2, over which the loss is a mean
        verdicts = {"output": within_gate(output, stages["output"])}
        for name, gradient in gradients.items():
            expected = Expected(exact[name].value / queries, exact[name].sigma / queries)
            verdicts[name] = within_gate(gradient, expected)
        assert not {name: verdict.note for name, verdict in verdicts.items() if not verdict.holds}
        assert gradients.keys() == exact.keys()
        return verdicts["output"].worst, max(verdicts[name].worst for name in gradients)

    return compare


@pytest.fixture
def on_two_hosts(tmp_path, blocks):
    """Runs what a tab shows under "More than one host": its program, by its commands, here; what each has printed."""

    def run(tab, **variables):
        (program,), (commands,) = (blocks(tab, "More than one host", language) for language in ("python", "sh"))
        ports = {f"{host}:29500": f"127.0.0.1:{_free_port()}" for host in HOSTS}
        for there, here in ports.items():
            program, commands = program.replace(there, here), commands.replace(there, here)
        (tmp_path / "hosts.py").write_text(program)
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
        started = [_start(command, tmp_path, environment) for command in commands.splitlines()]
        return [_finished(process) for process in started]

    return run


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _start(command, folder, environment):
    words = shlex.split(command, comments=True)
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    tools = {"python": [sys.executable], "torchrun": [sys.executable, "-m", "torch.distributed.run"]}
    command = [part for word in words[len(given) :] for part in tools.get(word, [word])]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment | given, **options)


def _finished(process):
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out
