"""Every clause that `trihead verify` checks, on every case, and the cases themselves."""

import numpy as np
import pytest

from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.frameworks import OURS
from shared_tests.harness.causes import causes
from shared_tests.harness.clauses import CLAUSES, RAISES


@pytest.mark.parametrize("clause", [*CLAUSES, RAISES])
def test_clause_holds(report, clause, name):
    """A clause, and in the end whether the subject raised nothing; `name` is the subject's, or how it is found."""
    judged = name if name in report.subjects else report.subjects[0]
    broken = [f for f in report.failures if (f.clause, f.subject) == (clause, judged)]
    if broken:
        pytest.fail("\n".join(map(str, causes(broken))), pytrace=False)
    if clause != RAISES and report.cells[clause, judged] is None:
        assert name not in OURS
        pytest.skip(f"{clause} {CLAUSES[clause]}: {report.missing(clause, judged)}")


def test_report_holds(report):
    assert report.holds
    assert report.compared > 1_000_000


@pytest.mark.parametrize("name", CASES)
def test_case_holds_numbers_of_its_dtype(name):
    for dtype in CASES[name].dtypes:
        trial = draw(name, CASES[name], dtype)
        for array in (trial.queries, trial.keys, trial.values, trial.cotangent, *trial.parameters.values()):
            assert array.dtype == ("float32" if dtype == "bfloat16" else dtype)
            assert np.isfinite(array).all()
            if dtype == "bfloat16":
                assert not (array.view(np.uint32) & 0xFFFF).any()


def test_cases_are_drawn_alike_every_time():
    first, second = (draw("bias", CASES["bias"], "float64") for _ in range(2))
    assert (first.queries == second.queries).all()
    assert not (draw("lengths", CASES["lengths"], "float64").queries == first.queries).any()


def test_cases_reach_what_they_name():
    """The extreme cases are as extreme as their names say."""
    from shared_tests.harness.oracle import forward

    scores = {
        name: forward(draw(name, CASES[name], "float64"))["scores"].value for name in CASES if "magnitudes" in name
    }
    far = forward(draw("scores far below -1e6", CASES["scores far below -1e6"], "float64"))["scores"].value
    assert far.max() < -1e6
    assert np.abs(scores["large magnitudes"]).max() > 500
    assert np.abs(scores["tiny magnitudes"]).max() < 1e-4
