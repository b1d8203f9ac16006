"""The ledger of releases: its page, its summaries, and how they are made. No test sets up an environment."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from shared_tests.cases.table import CASES
from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.studies import ledger
from shared_tests.studies.drifting import drift
from shared_tests.studies.ledger import Environment, environments, main, summaries, summary
from shared_tests.studies.ledger_page import page
from shared_tests.studies.recording import record

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "ledger"
LISTED = environments(KEPT)
FEW = {"book": CASES["book"]}


class Off:
    """An implementation whose outputs are off by a little, and moved."""

    def __init__(self, whole):
        self._whole = whole

    def __getattr__(self, name):
        return getattr(self._whole, name)

    def forward(self, *arguments):
        output, weights = self._whole.forward(*arguments)
        return output * 1.5, weights


def test_the_page_is_what_is_kept():
    """If this fails, run `python -m shared_tests.studies.ledger --page`."""
    found = {name: environment.found for name, environment in LISTED.items()}
    assert (ROOT / "docs" / "ledger.md").read_text() == page(summaries(KEPT), found)


def test_every_environment_was_tried_and_every_summary_is_listed():
    assert {path.stem for path in KEPT.glob("*.json")} == set(LISTED)
    for subject in OURS:
        assert sum(subject in environment.subjects for environment in LISTED.values()) >= 2


@pytest.mark.parametrize("name", LISTED)
def test_a_summary_is_of_its_environment(name):
    kept, environment = summaries(KEPT)[name], LISTED[name]
    pins = dict(re.fullmatch(r"([\w-]+)==(.+)", x).groups() for x in environment.releases if "==" in x)
    assert pins
    releases = {package: release.partition("+")[0] for package, release in kept["facts"].items()}
    assert pins.items() <= releases.items()
    assert releases["python"].startswith(f"{environment.python}.")
    assert set(kept["clauses"]["2.1"]) == set(environment.subjects)
    assert {row["subject"] for row in kept["drift"]["rows"]} == set(environment.subjects)
    assert sum(cell["compared"] for cell in kept["clauses"]["2.1"].values()) > 10_000


@pytest.mark.parametrize("name", LISTED)
def test_what_is_not_as_pinned_is_explained(name):
    kept = summaries(KEPT)[name]
    beyond = any(row["beyond"] for row in kept["drift"]["rows"])
    assert LISTED[name].found or not (beyond or kept["causes"])


def test_a_summary_says_what_was_judged_and_what_moved():
    right = find("torch_impl")
    before, wrong = record(right, cases=FEW), Off(right)
    after = record(wrong, cases=FEW)
    verdict = judge(wrong, cases=FEW).as_json()
    kept = summary(verdict, after.facts | {"OMP_NUM_THREADS": "1", "jax": "not installed"}, drift(before, after))
    assert json.loads(json.dumps(kept)) == kept
    assert kept["facts"]["torch"] == version("torch")
    assert not {"OMP_NUM_THREADS", "jax", "machine"} & set(kept["facts"])
    assert kept["clauses"]["2.1"]["torch_impl"]["failed"] > 0 == kept["clauses"]["2.2"]["torch_impl"]["failed"]
    moved = {row["clause"]: row["moved"] for row in kept["drift"]["rows"]}
    assert moved["2.1"] > 0 == moved["2.2"]
    text = page({"an environment": kept}, {"an environment": "outputs are off"})
    assert "**FAILS: torch_impl" in text
    assert "- **an environment**: outputs are off" in text
    assert re.search(r"\| an environment \| 2\.1 \| output \| [\d,]+ of [\d,]+ \| [\d.e+]+σ, \S+ units \|", text)


def test_errors_are_one_line(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        main(["no-such-row"])
    assert stopped.value.code == 2
    assert "expected names of jax-0.8.0, " in capsys.readouterr().err


def test_a_python_that_is_not_there_is_named(tmp_path):
    missing = Environment("a name", "3.99", ["torch_impl"], [])
    with pytest.raises(OSError, match=r"a name: expected python3\.99 on the PATH, got none"):
        ledger.try_out(missing, tmp_path, record(find("torch_impl"), cases=FEW))
