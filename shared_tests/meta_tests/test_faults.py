"""The suite, tested: a right port holds, and one with any fault of the catalogue fails."""

import re
from pathlib import Path

import pytest

from shared_tests import Subject, judge
from shared_tests.cases.refusals import REFUSALS
from shared_tests.cases.table import CASES
from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.faults.fault import KINDS
from shared_tests.faults.planted import Planted
from shared_tests.harness.find import find
from shared_tests.studies.planting import caught

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
FAILURES = PORT.with_name("failures.md").read_text()


def verdict(path):
    return judge(find(f"{path}:MyPort"))


def test_the_right_port_holds():
    report = verdict(PORT)
    assert report.holds, report.failures
    assert report.compared > 100_000


def test_the_layer_without_a_fault_holds():
    report = judge(Planted())
    assert report.holds, report.failures
    assert {"2.5", "4.1", "4.2", "7.7", "7.8", "8.3"} <= {c for (c, _), cell in report.cells.items() if cell}


@pytest.mark.parametrize("fault", CATALOGUE, ids=str)
def test_a_fault_fails_the_clauses_that_the_page_says(fault):
    clauses = caught(fault)
    assert clauses
    assert f"| {fault} | {', '.join(clauses)} |" in FAILURES


def test_stages_alone_show_a_missing_bias_of_keys():
    """It adds the same to every score of a query, which the softmax takes out, unless scores are as low as the fill."""
    (fault,) = [fault for fault in CATALOGUE if fault.shown_by == "stages"]
    assert fault.id == "W_k-bias-missing"
    assert judge(Planted(fault, stages=False), cases={fault.case: CASES[fault.case]}).holds


def test_every_fault_is_told_from_every_other():
    assert len({str(fault) for fault in CATALOGUE}) == len(CATALOGUE)
    assert {fault.kind for fault in CATALOGUE} == set(KINDS)
    assert {fault.case for fault in CATALOGUE} <= set(CASES)
    listed = set(re.findall(r"^\| `([\w-]+)` \|", FAILURES, re.MULTILINE))
    assert listed == {fault.id for fault in CATALOGUE}


def test_what_is_not_offered_is_not_passed():
    report = verdict(PORT)
    assert all(report.cell(clause, "MyPort") is None for clause in ("2.5", "3.5", "4.1", "4.2", "5.1", "6"))


def test_a_port_with_wrong_gradients_and_stages_fails(subjects):
    """The capabilities that are optional are judged where they are there."""

    class Wrong(type(subjects[0])):
        name = "wrong"

        def gradients(self, model, *arrays):
            return {name: -array for name, array in super().gradients(model, *arrays).items()}

        def stages(self, model, *arrays):
            stages = super().stages(model, *arrays)
            return stages | {"scores": stages["scores"] * 1.0001}

    report = judge(Wrong(), cases={"bias": CASES["bias"]})
    broken = {finding.clause for finding in report.failures}
    assert broken == {"2.5", "4.1", "4.2"}


def test_a_missing_gradient_fails(subjects):
    class Short(type(subjects[0])):
        name = "short"

        def gradients(self, model, *arrays):
            gradients = super().gradients(model, *arrays)
            del gradients["W_k.weight"]
            return gradients

    report = judge(Short(), cases={"bias": CASES["bias"]})
    failure, _ = report.failures  # in float64 and in float32
    assert (failure.clause, failure.verdict.what, failure.verdict.note) == ("4.2", "W_k.weight", "missing")


def test_two_subjects_that_part_fail_as_a_pair():
    """Both are named, even where each is within the gate of the oracle."""

    class Shifted(Subject):
        name = "shifted"
        port = find(f"{PORT}:MyPort")

        def build(self, *arguments):
            return self.port.build(*arguments)

        def forward(self, *arguments):
            output, weights = self.port.forward(*arguments)
            return output * (1 + 1e-7), weights

    findings = judge(find(f"{PORT}:MyPort"), Shifted(), cases={"bias": CASES["bias"]}).findings
    pairs = {(f.subject, f.verdict.what) for f in findings if f.clause == "2.3" and f.verdict.failed}
    assert pairs == {
        ("MyPort", "output of MyPort and shifted"),
        ("shifted", "output of MyPort and shifted"),
        ("shifted", "output of shifted and oracle"),
    }


def test_the_table_of_refusals_is_long_and_has_no_twins():
    assert len(REFUSALS) >= 20
    assert len({row.number for row in REFUSALS}) == len(REFUSALS)
    assert len({(row.call, str(row.changes)) for row in REFUSALS}) == len(REFUSALS)
