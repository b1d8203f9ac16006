"""Several subjects are judged at once, each in a process of its own, and then with each other."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests import judge
from shared_tests.cases.table import CASES
from shared_tests.harness.apart import judge_apart
from shared_tests.harness.find import find

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
SOURCE = PORT.read_text()


@pytest.fixture
def other(tmp_path):
    """A port that is right, but for a last bit here and there; its file is there to be changed."""
    path = tmp_path / "other.py"
    path.write_text(SOURCE.replace("class MyPort", "class Other").replace("attention @ v", "attention @ (v * 1.0)"))
    return path


def test_apart_as_together(other):
    names, heard = [f"{PORT}:MyPort", f"{other}:Other"], []
    apart, together = judge_apart(names, None, None, heard.append), judge(*map(find, names))
    assert apart.subjects == together.subjects == ["MyPort", "Other"]
    assert apart.cells == together.cells
    assert apart.holds
    assert {asked: {*answers} for asked, answers in apart.answers.items()} == {
        asked: {*answers} for asked, answers in together.answers.items()
    }
    assert set(heard) == {*(f"{name}, {dtype}" for name, case in CASES.items() for dtype in case.dtypes)} | {
        f"{rule}, {dtype}" for rule in ("sgd", "adam") for dtype in ("float64", "float32")
    }
    pairs = {f.verdict.what for f in apart.findings if f.clause == "2.3"}
    assert "output of MyPort and Other" in pairs


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os; os._exit(3)", "expected a verdict, got none: its process ended"),
        ("import nothing_of_this_name", "expected its framework to be installed"),
    ],
)
def test_a_process_without_a_verdict_is_one_line(other, line, words):
    other.write_text(f"{line}\n{SOURCE.replace('MyPort', 'Other')}")
    command = [sys.executable, "-m", "shared_tests", "verify", "--subject", f"{PORT}:MyPort", "--subject"]
    done = subprocess.run([*command, f"{other}:Other"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
