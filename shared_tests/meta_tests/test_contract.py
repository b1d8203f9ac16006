"""The contract names what is checked, and what it lists is what the code lists."""

import re
from pathlib import Path

from shared_tests.cases.case import draw
from shared_tests.cases.refusals import REFUSALS
from shared_tests.cases.table import CASES
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.known import known_differences
from shared_tests.harness.oracle import forward
from shared_tests.harness.rounding import FORMATS, GATE

DOCS = Path(__file__).parents[2] / "docs"
CONTRACT = (DOCS / "contract.md").read_text()


def test_every_clause_of_the_table_is_in_the_contract():
    for clause in CLAUSES:
        assert f"- **{clause}** " in CONTRACT or f"## {clause} " in CONTRACT, clause


def test_every_refusal_is_in_the_contract_and_no_other():
    rows = re.findall(r"^\| (6\.\d+\.\d+) \|.*\| (\w+) \| `(.*)` \|$", CONTRACT, re.MULTILINE)
    assert rows == [(row.number, row.error.__name__, row.words) for row in REFUSALS]


def test_every_stage_is_in_the_contract():
    for stage in forward(draw("book", CASES["book"], "float32")):
        assert f"`{stage}`" in CONTRACT


def test_the_gate_is_the_one_that_the_docs_state():
    assert f"**{GATE:g}σ**" in (DOCS / "rounding.md").read_text()
    assert set(FORMATS) == set(re.findall(r"^\| (\w+\d+) \| 2⁻", (DOCS / "rounding.md").read_text(), re.MULTILINE))


def test_known_differences_are_reasoned_and_reproduced():
    assert known_differences()
    for entry in known_differences():
        assert entry.clause in {*CLAUSES, "9.1"}
        assert len(entry.reason) > 20
        assert "(" in entry.reproduction
