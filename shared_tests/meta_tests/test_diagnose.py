"""Diagnosis, tested: what is right has no cause, each fault has its own, and what is printed holds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_tests import judge
from shared_tests.faults.catalogue import CATALOGUE, named
from shared_tests.faults.diagnosis import diagnose
from shared_tests.faults.fault import BY_WEIGHTS
from shared_tests.faults.planted import Planted
from shared_tests.faults.words import as_attributes
from shared_tests.harness.find import find
from shared_tests.harness.subject import in_words
from shared_tests.studies import planting

DOCS = Path(__file__).parents[2] / "docs"
FIRST = {fault.id: fault for fault in CATALOGUE[::-1]}
"""One of each id; what makes numbers inexact takes seconds to tell, and is measured by `trihead faults` instead."""


def pasted(subject, diagnosis):
    """The subject with the attributes that diagnosis says."""
    for name, value in diagnosis.claims.items():
        setattr(subject, name, value)
    return subject


def test_a_right_subject_has_no_cause(subjects):
    for subject in subjects:
        found = diagnose(subject)
        assert found.holds, found.words
        assert found.stage is None
        assert as_attributes(found.claims, subject) == []


@pytest.mark.parametrize("weights", [True, False], ids=["with attention weights", "output alone"])
def test_the_layer_without_a_fault_has_no_cause(weights):
    found = diagnose(Planted(weights=weights))
    assert found.holds, found.words


@pytest.mark.parametrize("name", [name for name, fault in FIRST.items() if not fault.unit])
def test_a_fault_is_named(name):
    fault = FIRST[name]
    if fault.shown_by == "stages":
        assert planting.named(fault) == ()
        assert diagnose(Planted(fault)).faults == [name]
        return
    assert planting.named(fault)[0] == name
    if fault.shown_by != BY_WEIGHTS:
        assert planting.named(fault, weights=False)[0] == name


@pytest.mark.parametrize(
    "names",
    [
        ("softmax-float32", "mask-tiled-over-heads"),
        ("mask-inverted", "empty-rows-zero"),
        ("scale-of-hidden", "heads-view-split"),
        ("W_o-transposed", "mask-one-too-long"),
        ("tf32 (right of W_k)", "empty-rows-nan"),
    ],
    ids=" and ".join,
)
def test_two_faults_are_both_named(names):
    pair = [named(name) for name in names]
    assert {fault.id for fault in pair} <= set(planting.named(*pair))


def test_pairs_are_drawn_alike_and_both_show():
    pairs = list(planting.pairs(6))
    assert pairs == list(planting.pairs(6))
    assert all(one.id != other.id for one, other in pairs)


class Narrow(Planted):
    """A right port of its own domain, that says nothing of it: what it refuses, a user's layer does refuse."""

    def __init__(self, refuses, *faults):
        super().__init__(*(named(name) for name in faults), weights="weights" not in refuses, stages=False)
        del self.attention_weights
        self.refuses, self.gradients, self.additive, self.name = refuses, None, False, "narrow"
        self.pruned = "pruned" in refuses

    def build(self, config, weights, dtype):
        widths = {config.query_size, config.key_size, config.value_size, config.num_hiddens}
        if "widths" in self.refuses and len(widths) > 1:
            raise ValueError("expected one width")
        if "pruned" in self.refuses and config.num_heads * config.head_dim != config.num_hiddens:
            raise ValueError("expected heads as wide as the output")
        if "no biases" in self.refuses and not config.bias:
            raise KeyError("W_q.bias")
        if "float32" in self.refuses and dtype == "float32":
            raise TypeError("float64 only")
        return super().build(config, weights, dtype)

    def forward(self, model, queries, keys, values, valid_lens):
        if "two inputs" in self.refuses and (queries.shape != keys.shape or (queries != keys).any()):
            raise ValueError("expected one x")
        if "all but causal" in self.refuses and not (
            valid_lens is not None and valid_lens.ndim == 2 and (valid_lens == np.arange(1, queries.shape[1] + 1)).all()
        ):
            raise ValueError("causal alone")
        if "lengths per query" in self.refuses and valid_lens is not None and valid_lens.ndim == 2:
            raise ValueError("expected lengths (batch,)")
        if "empty" in self.refuses and not queries.size:
            raise RuntimeError("cannot reshape 0 elements")
        return super().forward(model, queries, keys, values, valid_lens)


NARROW = [
    Narrow(["two inputs", "widths"]),
    Narrow(["two inputs", "widths", "no biases", "weights"], "empty-rows-nan"),
    Narrow(["two inputs", "all but causal", "empty"]),
    Narrow(["lengths per query"], "empty-rows-zero", "attention-weights-averaged"),
    Narrow(["empty", "float32"], "fill-finite (-1e+09)"),
    Narrow(["weights"], "empty-rows-zero"),
    Narrow(["pruned", "two inputs", "widths"]),
    Narrow(["pruned"]),
]


@pytest.mark.parametrize("port", NARROW, ids=lambda port: ", ".join([*port.refuses, *map(str, port.faults)]))
def test_with_the_attributes_that_are_printed_it_holds(port):
    found = diagnose(port)
    assert not found.holds
    assert not [cause for cause in found.causes if not cause.fault], found.words
    report = judge(pasted(port, found))
    assert report.holds, str(report)
    assert diagnose(port).holds, diagnose(port).words


def test_what_no_fault_explains_is_said_to_be_so():
    class Odd(Planted):
        def forward(self, *arguments):
            output, weights = super().forward(*arguments)
            return output + np.sin(1000 * output), weights

    found = diagnose(Odd(stages=False))
    assert found.faults == []
    assert "unexplained: the output part first" in found.words
    assert found.stage == "output"


def test_a_port_that_raises_anything_is_one_line():
    class Broken:
        def build(self, config, weights, dtype):
            raise SystemExit("no")

        def forward(self, *arguments):
            raise AssertionError

    found = diagnose(Broken())
    assert found.faults == ["crash"]
    assert len(found.words.splitlines()) == 1
    assert in_words(SystemExit("no")) in found.words
    json.dumps(found.as_json(), allow_nan=False)


def test_the_guide_prints_what_diagnosis_says():
    guide = (DOCS / "porting.md").read_text()
    found = diagnose(find(f"{DOCS / 'ports' / 'wrong_port.py'}:WrongPort"))
    printed = re.search(r"trihead diagnose --subject docs/ports/wrong_port.py:WrongPort\n(.*?)```", guide, re.DOTALL)[1]
    without_figures = re.compile(r"[\d.]+σ")
    assert without_figures.sub("σ", found.words) in without_figures.sub("σ", printed)


def trihead(*arguments):
    command = [sys.executable, "-m", "shared_tests", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent)


def test_the_command_writes_what_the_design_says(tmp_path):
    file = tmp_path / "diagnosis.json"
    result = trihead("diagnose", "--subject", "docs/ports/wrong_port.py:WrongPort", "--json", file)
    assert result.returncode == 1
    assert result.stderr == ""
    found = json.loads(file.read_text())
    assert found["faults"] == ["mask-tiled-over-heads", "empty-rows-uniform"]
    assert (found["subject"], found["holds"], found["stage"]) == ("WrongPort", False, "attention_weights")
    assert found["claims"]["masks"] == ["none"]
    assert found["words"] in result.stdout


def test_the_command_is_content_with_a_right_port():
    result = trihead("diagnose", "--subject", "docs/my_port.py:MyPort")
    assert (result.returncode, result.stdout, result.stderr) == (0, "MyPort: nothing wrong was found\n", "")


def test_faults_are_planted_by_the_command():
    result = trihead("faults", "--id", "mask-inverted", "--pairs", 1)
    assert result.returncode == 0, result.stderr
    assert "1 of 1 faults are caught by a clause" in result.stdout
    assert "1 of 1 that show are named with attention weights: 100.0%" in result.stdout
    assert "of 1 random pairs are named" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnose"], "expected one of --subject and --answers, got 0"),
        (["diagnose", "--subject", "nobody"], "nobody"),
        (["diagnose", "--answers", "docs"], "expected a folder that trihead cases wrote"),
        (["diagnose", "--subject", "docs/my_port.py:MyPort", "--json", "no/such"], "--json: expected a file in an"),
        (["faults", "--id", "mask"], "--id: expected a fault of the catalogue (docs/failures.md), got mask"),
        (["faults", "--page", "no/such.md"], "--page: expected a file in an existing folder, got no/such.md"),
    ],
)
def test_bad_use_is_one_line(arguments, words):
    result = trihead(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
