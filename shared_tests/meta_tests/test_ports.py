"""The examples of docs/porting.md: the right one holds, and the wrong one fails as the guide says."""

import re
from pathlib import Path

import pytest

from shared_tests import judge
from shared_tests.harness.find import find

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "porting.md").read_text()
WRONG = (DOCS / "ports" / "wrong_port.py").read_text()
LENGTHS, CLAIM = ("repeat(heads)", "repeat_interleave(heads)"), ('= "zeros"', '= "uniform"')
"""The two mistakes, and what would be right."""


def without_counts(text):
    """How many more cases fail grows with the table of cases."""
    return re.sub(r" \(\+\d+ more\)", "", text)


def test_the_right_port_holds():
    report = judge(find(f"{DOCS}/ports/equinox_port.py:EquinoxPort"))
    assert report.holds, str(report)
    verdict, _, _ = report.verdict().partition("EquinoxPort: ")
    assert f"{verdict}EquinoxPort: …" in GUIDE
    assert all(report.cell(clause, "EquinoxPort") for clause in ("2.1", "2.2", "3.5", "4.1", "4.2"))


def test_the_wrong_port_fails_as_the_guide_says():
    report = judge(find(f"{DOCS}/ports/wrong_port.py:WrongPort"))
    assert not report.holds
    for cause in report.causes()[:4]:
        assert without_counts(cause) in without_counts(GUIDE)


@pytest.mark.parametrize(("mended", "holds"), [([LENGTHS], False), ([CLAIM], False), ([LENGTHS, CLAIM], True)])
def test_the_wrong_port_has_those_two_mistakes(tmp_path, mended, holds):
    source = WRONG
    for mistake, remedy in mended:
        assert source.count(mistake) == 1
        source = source.replace(mistake, remedy)
    (tmp_path / "port.py").write_text(source)
    assert judge(find(f"{tmp_path}/port.py:WrongPort")).holds == holds
