"""A trained BERT, where its package is installed: the tutorial runs, and its layers are cases that tell faults."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared_tests import judge
from shared_tests.cases import minilm
from shared_tests.cases.case import draw
from shared_tests.cases.table import REAL
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "real-model.md").read_text()
installed = pytest.mark.skipif(not REAL, reason=f"{minilm.PACKAGE} is not installed")


def without_numbers(text):
    return re.sub(r" *\d+\.\d+(e-\d+|σ)", " x", text)


@installed
def test_the_tutorial_prints_what_the_guide_says(tmp_path):
    command = [sys.executable, ROOT / "docs" / "real_model.py", "docs/real-model.png"]
    (tmp_path / "docs").mkdir()
    paths = os.pathsep.join(map(os.path.abspath, filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    environment = os.environ | {"PYTHONPATH": paths}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "HOLDS 442,368 comparisons" in result.stdout
    assert without_numbers(result.stdout.rstrip()) in without_numbers(GUIDE)
    assert (tmp_path / "docs" / "real-model.png").stat().st_size > 10_000


@installed
def test_a_wrong_reading_of_a_trained_layer_is_seen():
    """Its matrices are square: transposed, or with two of its heads exchanged, they fit as well."""
    trial = draw("MiniLM, layer 0", REAL["MiniLM, layer 0"], "float64")
    right = oracle.forward(trial)["output"]
    query = trial.parameters["W_q.weight"]
    for wrong in (query.T, np.roll(query, 32, axis=0)):
        changed = replace(trial, parameters=trial.parameters | {"W_q.weight": wrong})
        assert not within_gate(oracle.forward(changed)["output"].value, right).holds


@installed
def test_a_trained_layer_is_a_case():
    assert len(REAL) == minilm.LAYERS
    report = judge(find("torch_impl"), cases={"MiniLM, layer 5": REAL["MiniLM, layer 5"]})
    assert report.holds, str(report)
    assert "over 1 case" in report.verdict()


@pytest.mark.skipif(bool(REAL), reason=f"{minilm.PACKAGE} is installed")
def test_without_the_package_there_are_no_such_cases():
    assert minilm.names() == []
    with pytest.raises(ImportError, match=r"pip install 'trihead\[real-model\]'"):
        minilm.sentence()
