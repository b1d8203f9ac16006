"""The layers of frameworks and libraries hold within their claims, and docs/builtins.md says what they do."""

from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS, LIBRARIES, OURS, SHARDED
from shared_tests.harness.find import find, known
from shared_tests.harness.judge import judge
from shared_tests.harness.subject import Subject
from shared_tests.storage import programs_folder
from shared_tests.studies.builtins import CLAIMS, deviations, differences, layers, page

PAGE = Path(__file__).parents[2] / "docs" / "builtins.md"
SHOWN = {f"{e.subject}, {getattr(e, 'claim', '') or e}": e.reproduction for e in (*deviations(), *differences())}


@pytest.fixture(scope="module")
def subjects():
    return {name: find(name, programs=programs_folder()) for name in layers()}


@pytest.fixture(scope="module")
def report(subjects):
    """All at once: what the oracle finds is then found once for those who are asked the same."""
    return judge(*subjects.values())


pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax over axis 3:UserWarning")


def test_every_layer_is_described():
    assert sorted(layers()) == sorted(set(known()) - {*OURS, *SHARDED})
    assert {library.subject for library in LIBRARIES} | {framework.peer for framework in FRAMEWORKS} < set(layers())


@pytest.mark.parametrize("name", layers())
def test_a_layer_holds_within_its_claims(report, name):
    assert not [finding for finding in report.failures if finding.subject == name]
    assert report.about[name].claims, "claims all there is: no layer of a library does"
    assert sum(cell.compared for (_, subject), cell in report.cells.items() if cell and subject == name) > 500_000


@pytest.mark.parametrize("name", layers())
def test_each_claim_is_reasoned(subjects, name):
    claims = {claim for claim in CLAIMS if getattr(subjects[name], claim) != getattr(Subject, claim)}
    less = {d.claim for d in deviations() if d.subject == name}
    assert less - {"dtypes"} == claims - {"dtypes", "pruned"}  # what claims pruned layers claims more
    assert "dtypes" in less or {*Subject.dtypes} <= {*subjects[name].dtypes}


@pytest.mark.parametrize("name", SHOWN)
def test_each_deviation_is_shown(name):
    """By at most ten lines, which fail where it is gone."""
    if "\n" not in SHOWN[name]:
        assert SHOWN[name].startswith("as for ")
        return
    assert "assert" in SHOWN[name] or "raise" in SHOWN[name]
    assert len(SHOWN[name].strip().splitlines()) <= 10
    exec(SHOWN[name], {})


def test_the_page_is_what_was_found(report, subjects):
    """If this fails, run `python -m shared_tests.studies.builtins`."""
    assert page(report, subjects) == PAGE.read_text()
