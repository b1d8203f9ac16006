"""Pages that are written from data are what the data say, and each clause of the contract leads to its tests."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import shared_tests
from shared_tests import sources
from shared_tests.commands import reference
from shared_tests.commands.app import app
from shared_tests.frameworks import OURS
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.find import find
from shared_tests.harness.known import known_differences
from shared_tests.studies import reference_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONTRACT = (DOCS / "contract.md").read_text()
ROWS = dict(re.findall(r"^\| \[([\d.]+)\]\(#clause-[\d-]+\) \| (.*) \|$", CONTRACT, re.MULTILINE))
VERDICT = json.loads((ROOT / reference_pages.VERDICT).read_text())
WRITTEN = {**reference_pages.pages(ROOT), DOCS / "commands.md": reference.page()}
COMMANDS = dict(reference.commands(app))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_page_is_what_its_data_say(path):
    """If this fails: python -m shared_tests.commands.reference."""
    assert path.read_text() == WRITTEN[path]


def test_every_clause_has_an_anchor_and_tests():
    clauses = [*re.findall(r"^- \*\*([\d.]+)\*\* ", CONTRACT, re.MULTILINE), "6"]
    anchors = re.findall(r'<a id="clause-([\d-]+)"></a>', CONTRACT)
    assert sorted(anchors) == sorted(clause.replace(".", "-") for clause in clauses)
    assert set(ROWS) == {*clauses}


@pytest.mark.parametrize("clause", ROWS)
def test_the_tests_of_a_clause_are_there(clause):
    links = re.findall(r"\[(test_\w+)\]\(\.\./([\w/]+\.py)\)", ROWS[clause])
    assert links
    for name, path in links:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {name}"
    assert ("test_clause_holds" in dict(links)) == asked_of_ports(clause)


def asked_of_ports(clause):
    """Whether the parity table has the clause; or, of those without a row, a case or a refusal in it."""
    return clause in {*CLAUSES, "1.5", "3.3", "3.6", "9.4", "10.3"}


def test_the_results_have_every_clause():
    assert [row["clause"] for row in VERDICT["clauses"]] == [*CLAUSES]
    assert VERDICT["holds"]
    assert VERDICT["subjects"] == [*OURS]


def test_shares_are_counted_by_hand():
    """Of four errors three lie within half a sigma, and one in the next bin but one; a fifth is excused."""
    histogram = [0] * 33
    histogram[0], histogram[1], histogram[3], histogram[32] = 2, 1, 1, 1
    cells = [{"histogram": histogram}, None, {"histogram": []}]
    verdict = {"subjects": ["a"], "clauses": [{"subjects": {"a": cell}} for cell in cells]}
    rows = reference_pages._shares(verdict)
    assert rows[0] == ["0.5σ", "60.0000%"]
    assert rows[1] == ["1σ", "80.0000%"]
    assert rows[-1][1] == "1"


def test_every_known_difference_is_on_its_page():
    page = (DOCS / "known-differences.md").read_text()
    for entry in known_differences():
        assert f"{entry.reason}" in page
        assert entry.subject not in OURS or entry.reproduction.strip() in page


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_same_help(name):
    """Every option of the page, and no other, with the words and the example that `--help` prints."""
    printed = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "1000"}).output
    section = (DOCS / "commands.md").read_text().split(f"## {name}\n")[1].split("\n## ")[0]
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(re.findall(r"^- (`-.*?): ", section, re.MULTILINE))))
    columns = " ".join(line[:60] for line in printed.splitlines() if line.startswith("│ ") and "--" in line[:8])
    assert options == set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", columns)) - {"--help"}
    assert section.split("```sh\n")[1].split("\n```")[0] in printed
    assert section.count("```sh\ntrihead ") == 1


def test_no_command_is_left_out():
    page = (DOCS / "commands.md").read_text()
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == [*COMMANDS]
    assert {"trihead verify", "trihead heads prune", "trihead convert"} <= set(COMMANDS)


def test_every_public_name_has_one_place_on_the_page_of_the_api():
    named = re.findall(r"^:::\{api\} ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    names = {name.rpartition(".")[2] for name in named}
    init = (ROOT / "torch_impl" / "__init__.py").read_text()
    public = re.findall(r'^    "(\w+)",$', init, re.MULTILINE)
    assert len(public) > 10
    assert {*public, *shared_tests.__all__} <= names
    for name in {*shared_tests.__all__}:
        assert f"shared_tests.{shared_tests.MODULES[name]}.{name}" in named


PRINTED = """machine                      Linux x86_64, 2 cores
python                       3.11.7
mypy                         2.4.1
torch                        2.13.0+cpu
TF_CLI_CONFIG_FILE           /home/somebody/.terraformrc
torch_impl: threads          2
HOLDS: torch_impl on cpu:0: 2 comparisons
"""


def test_the_block_of_doctor_is_put_in_place_and_names_nothing_of_the_machine():
    block = reference_pages.doctor_block(PRINTED)
    assert "somebody" not in block
    assert "mypy" not in block
    assert block.splitlines()[2] == "torch                        2.13.0"
    page = f"before\n\n{reference_pages.DOCTOR}```text\nold\n```\n\nafter\n"
    new = reference_pages.with_doctor(page, PRINTED)
    assert re.sub(r"Printed on .*:\n\n", "", new) == page.replace("old\n", block)
    assert reference_pages.with_doctor(new, PRINTED) == new
    with pytest.raises(ValueError, match=r"environment\.md: expected <!-- trihead doctor --> and a block"):
        reference_pages.with_doctor("nothing", PRINTED)


@pytest.mark.parametrize("name", OURS)
def test_the_page_of_settings_shows_and_explains_what_doctor_reads(name):
    page = (DOCS / "environment.md").read_text()
    for setting in find(name).backend.settings():
        assert f"\n{name}: {setting} " in page
        assert setting in ("devices", "threads") or page.count(setting) > 1, setting


def test_a_name_that_was_renamed_is_seen():
    with pytest.raises(ValueError, match=r"expected a function, method or class called weights\.export_weight, found"):
        sources.parsed("torch_impl", "weights.export_weight")
