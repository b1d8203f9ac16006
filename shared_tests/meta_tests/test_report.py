"""What a reader is told: causes in order, claims by name, errors with their place, in a terminal and under pytest."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests import judge
from shared_tests.cases.table import CASES
from shared_tests.harness.causes import causes
from shared_tests.harness.clauses import CLAUSES, RAISES
from shared_tests.harness.compare import Verdict, failure
from shared_tests.harness.errors import in_words
from shared_tests.harness.find import find
from shared_tests.harness.known import Finding
from shared_tests.harness.report import About, Report

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
FEW = {name: CASES[name] for name in ("book", "lengths per query", "zero lengths")}
PYTEST = [sys.executable, "-m", "pytest", "-p", "shared_tests.pytest_plugin", "-p", "no:cacheprovider"]
RAISING = """
from my_port import MyPort

class Port(MyPort):
    def forward(self, model, queries, keys, values, valid_lens):
        if valid_lens is not None and valid_lens.ndim == 2:
            raise NotImplementedError("no lengths per query")
        return super().forward(model, queries, keys, values, valid_lens)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder of somebody else's, with a right port."""
    (tmp_path / "my_port.py").write_text(PORT.read_text())
    return tmp_path


def run(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(PORT.parents[1])}
    return subprocess.run(
        [*PYTEST, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_an_error_has_a_line_with_the_porters_own_place(folder):
    (folder / "raising.py").write_text(RAISING)
    report = judge(find(f"{folder / 'raising.py'}:Port"), cases=FEW)
    (cause,) = report.causes()
    assert cause == "1 case: NotImplementedError: no lengths per query (raising.py:7); first lengths per query, float64"
    assert report.verdict() == "FAILS: Port: errors in 1 case"
    assert report.cell("2.1", "Port").holds  # in the other cases


KERAS = """Exception encountered when calling Layer.call().

\x1b[1mmask must broadcast\x1b[0m

Arguments received by Layer.call():
  • x=1"""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("one line"), "ValueError: one line"),
        (ValueError("first\n\nlast\n"), "ValueError: first … last"),
        (RuntimeError(KERAS), "RuntimeError: mask must broadcast"),
        (
            TypeError("not valid\n--------------------\nFor simplicity, JAX has removed its frames"),
            "TypeError: not valid",
        ),
        (ValueError(""), "ValueError: "),
        (ValueError("x" * 500), f"ValueError: {'x' * 100} … {'x' * 100}"),
    ],
)
def test_an_error_is_its_last_line_that_says_something(error, words):
    assert in_words(error) == words


def finding(clause, case="book", **verdict):
    return Finding(clause, "a", case, "float64", Verdict(**({"compared": 2, "failed": 1, "note": "off"} | verdict)))


def test_one_line_for_each_cause_the_clearest_first():
    found = [finding("2.3"), finding("2.1"), finding("2.1", "lengths"), finding("2.2"), finding("1.1", what="output")]
    found.append(Finding(RAISES, "a", "causal", "float64", failure("ValueError: no")))
    lines = [str(cause) for cause in causes(found)]
    assert lines[0] == "1 case: ValueError: no; first causal, float64"
    assert [line.split()[0] for line in lines[1:]] == ["1.1", "2.2", "2.1", "2.3"]
    assert lines[3] == "2.1 output: book, float64: off (+1 more)"


def test_a_clause_in_which_nothing_was_compared_is_not_broken():
    report = Report(["a"], [finding("2.1", failed=0), Finding("2.2", "a", "empty", "float64", Verdict())])
    assert report.holds
    assert report.cells["2.2", "a"] is None


def test_why_nothing_was_compared():
    held = [finding("2.1", failed=0)]
    about = {"a": About(offers=frozenset({"gradients"}))}
    report = Report(["a"], held, about)
    assert report.missing("4.1", "a") == "not claimed"
    assert report.missing("2.5", "a") == "not offered"
    stopped = Report(["a"], [*held, Finding(RAISES, "a", "book", "float64", failure("no"))], about)
    assert stopped.missing("4.1", "a") == "not reached"
    wrong = Report(["a"], [finding("2.1", failed=1)], about)
    assert wrong.missing("7.8", "a") == "not reached"
    assert wrong.missing("4.1", "a") == "not claimed"


def test_a_wrong_shape_of_weights_hides_nothing_else(folder):
    source = PORT.read_text().replace('"W_o"), attention', '"W_o") * 1.001, attention.swapaxes(1, 2)')
    (folder / "wrong.py").write_text(source)
    report = judge(find(f"{folder / 'wrong.py'}:MyPort"), cases=FEW)
    assert {f.clause for f in report.failures} == {"1.1", "2.1", "2.3"}
    assert report.missing("2.2", "MyPort") == "not reached"


def test_nan_is_not_another_answer_every_time(folder):
    source = PORT.read_text().replace("joined = context", "joined = np.nan * context")
    (folder / "wrong.py").write_text(source)
    report = judge(find(f"{folder / 'wrong.py'}:MyPort"), cases=FEW)
    assert {f.clause for f in report.failures} == {"2.1", "2.3"}


def test_the_message_of_an_assertion_is_the_report(folder):
    (folder / "raising.py").write_text(RAISING)
    (folder / "test_mine.py").write_text(
        "from shared_tests import judge\nfrom raising import MyPort, Port\n"
        "def test_right(): assert judge(MyPort()).holds\n"
        "def test_wrong(): assert judge(Port()).holds\n"
        "def test_whole(): report = judge(Port()); assert report, str(report)\n"
    )
    done = run(folder, "-q", "test_mine.py")
    assert "2 failed, 1 passed" in done.stdout
    assert "E   assert FAILS: Port: errors in 8 cases | next: trihead diagnose --subject raising.py:Port" in done.stdout
    assert "8 cases: NotImplementedError: no lengths per query (raising.py:7)" in done.stdout
    assert re.search(r"^E +next: trihead diagnose --subject raising.py:Port$", done.stdout, re.MULTILINE)


def test_the_suite_on_a_port(folder):
    done = run(folder, "--pyargs", "shared_tests", "--subject", "my_port.py:MyPort", "--junitxml", "found.xml")
    assert done.returncode == 0, done.stdout
    assert "trihead: judges my_port.py:MyPort" in done.stdout
    assert "numpy 2" in done.stdout
    assert f"{len(CLAUSES) + 1 - 12} passed, 12 skipped" in done.stdout
    assert 'name="test_clause_holds[my_port.py:MyPort-3.1]"' in (folder / "found.xml").read_text()


KNOWN = """[[difference]]
clause = "raises"
case = "{}"
reason = "the layer takes none"
"""


def test_the_suite_on_a_port_with_known_differences(folder):
    (folder / "raising.py").write_text(RAISING)
    cases = [name for name, case in CASES.items() if isinstance((case.valid_lens or (0,))[0], tuple)]
    (folder / "known.toml").write_text("".join(map(KNOWN.format, cases)))
    arguments = ["--pyargs", "shared_tests", "--subject", "raising.py:Port", "-k", "raises or 3.1"]
    done = run(folder, *arguments)
    assert "1 failed, 1 passed" in done.stdout
    assert "8 cases: NotImplementedError: no lengths per query (raising.py:7)" in done.stdout
    (folder / "known.toml").write_text("".join(map(KNOWN.format, [*cases, "lengths"])))
    done = run(folder, *arguments, "--known", "known.toml")
    assert "known.toml lists raises, case lengths, which no longer differs: remove the entry" in done.stdout


def test_known_differences_of_a_ports_own(folder):
    (folder / "known.toml").write_text('[[difference]]\nclause = "2.1"\nreason = "why"\n')
    wrong = find(f"{folder / 'my_port.py'}:MyPort")
    assert "remove the entry" in str(judge(wrong, cases=FEW, known=folder / "known.toml"))
    (folder / "wrong.py").write_text(PORT.read_text().replace('"W_o"), attention', '"W_o") * 1.001, attention'))
    wrong = find(f"{folder / 'wrong.py'}:MyPort")
    report = judge(wrong, cases=FEW, known=folder / "known.toml")
    assert {f.clause for f in report.failures} == {"2.3"}
    assert report.cell("2.1", "MyPort").excused > 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("difference = 1", "expected entries [[difference]] with clause and reason"),
        ("[[difference]]\nclause = '2.1'\n", "expected entries [[difference]] with clause and reason"),
        ("[[difference]]\nclause = '2.9'\nreason = 'why'\n", "expected a clause of the contract, or raises, got 2.9"),
        ("[[difference]]\nclause = '2.1'\nreason = ''\n", "expected texts, and a reason"),
        ("[[difference]]\nclause = '2.1'\nreason = 'why'\ncases = 'book'\n", "unexpected keyword argument 'cases'"),
        ("[[difference", "expected entries [[difference]] with clause and reason"),
    ],
)
def test_a_bad_list_is_one_line(folder, text, words):
    (folder / "known.toml").write_text(text)
    with pytest.raises(ValueError, match=r"known\.toml: expected") as raised:
        judge(find(f"{PORT}:MyPort"), cases=FEW, known=folder / "known.toml")
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_json_says_what_was_not_asked():
    report = judge(find(f"{PORT}:MyPort"), cases={"no lengths": CASES["no lengths"]})
    rows = {row["clause"]: row for row in json.loads(json.dumps(report.as_json()))["clauses"]}
    assert rows["4.1"]["not asked"] == {"MyPort": "not offered"}
    assert rows["3.2"]["not asked"] == {"MyPort": "not claimed"}
    assert rows["2.1"]["not asked"] == {}
