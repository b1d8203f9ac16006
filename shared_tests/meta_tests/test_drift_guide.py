"""The commands and the example of docs/drift.md do what it says, on a port before and after a change."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "drift.md").read_text()
SOURCE = (DOCS / "my_port.py").read_text()
SCORES = "q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1], dtype=q.dtype)"
CHANGES = {
    "refactored": (SCORES, "(q / np.sqrt(q.shape[-1], dtype=q.dtype)) @ k.swapaxes(2, 3)"),
    "wrong": ("context = attention @ v", "context = attention.astype(np.float16).astype(v.dtype) @ v"),
}


@pytest.fixture
def folder(tmp_path):
    shutil.copy(DOCS / "my_port.py", tmp_path)
    return tmp_path


def change(folder, name):
    assert SOURCE.count(CHANGES[name][0]) == 1
    (folder / "my_port.py").write_text(SOURCE.replace(*CHANGES[name]))


def trihead(folder, *arguments):
    command = [sys.executable, "-m", "shared_tests", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def block(language):
    return GUIDE.split(f"```{language}\n")[1].split("```")[0]


@pytest.mark.parametrize(("name", "code"), [("refactored", 0), ("wrong", 1)])
def test_the_workflow(folder, name, code):
    """Its commands, in their order, with the change in between."""
    lines = [line.partition("run: ")[2] for line in block("yaml").splitlines() if "run: trihead" in line]
    recorded, compared = (line.replace("${{ runner.temp }}", str(folder)).split()[1:] for line in lines)
    assert trihead(folder, *recorded).returncode == 0
    unmoved = trihead(folder, *compared)
    assert (unmoved.returncode, unmoved.stderr) == (0, "")
    assert unmoved.stdout == "UNMOVED: MyPort: 247,216 numbers are the same bits\n"
    change(folder, name)
    moved = trihead(folder, *compared)
    assert (moved.returncode, moved.stderr) == (code, "")
    found = json.loads((folder / "drift.json").read_text())
    assert found["holds"] is (code == 0)
    assert sum(row["moved"] for row in found["rows"]) > 1000
    assert ("explanation: " in moved.stdout) is (code == 1)
    assert found["verdict"] in moved.stdout


def test_the_explanation_is_the_one_that_is_shown(folder):
    trihead(folder, "record", "before.safetensors", "--subject", "my_port.py:MyPort")
    change(folder, "wrong")
    said = trihead(folder, "drift", "before.safetensors").stdout
    shown = GUIDE.split("on the way:\n\n  ```text\n")[1].split("```")[0].splitlines()
    for line in filter(str.strip, shown):
        assert line.strip().partition(" of ")[0] in said


@pytest.mark.parametrize(("name", "code"), [("refactored", 0), ("wrong", 1)])
def test_the_test(folder, name, code):
    """As pytest runs it in the reader's repository."""
    (folder / "test_drift.py").write_text(block("python"))
    trihead(folder, "record", "my_port.safetensors", "--subject", "my_port.py:MyPort")
    change(folder, name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_drift.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout
    assert ("BEYOND THE GATE: MyPort: " in done.stdout) is (code == 1)


def test_bad_use_is_one_line(folder):
    trihead(folder, "record", "a.safetensors", "--subject", "my_port.py:MyPort")
    (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-1])
    for arguments, words in (
        (("none.safetensors",), "none.safetensors"),
        (("a.safetensors", "b.safetensors"), "b.safetensors: expected a record, got a file that is truncated"),
        (("a.safetensors", "a.safetensors", "--subject", "torch_impl"), "drift: expected AFTER, or --subject"),
        (("a.safetensors", "--json", "no/where"), "--json: expected a file in an existing folder"),
    ):
        result = trihead(folder, "drift", *arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
