"""The frameworks' own layers hold within their claims, and docs/builtins.md says what they do."""

from pathlib import Path

import pytest

from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.harness.subject import Subject
from shared_tests.studies.builtins import CLAIMS, LAYERS, deviations, differences, page

PAGE = Path(__file__).parents[2] / "docs" / "builtins.md"
SHOWN = {f"{e.subject}, {getattr(e, 'claim', '') or e}": e.reproduction for e in (*deviations(), *differences())}


@pytest.fixture(scope="module")
def subjects():
    return {name: find(name) for name in LAYERS}


@pytest.fixture(scope="module")
def reports(subjects):
    return {name: judge(subject) for name, subject in subjects.items()}


pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax over axis 3:UserWarning")


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_holds_within_its_claims(reports, name):
    assert reports[name].holds, str(reports[name])
    assert reports[name].verdict().startswith("HOLDS within its claims (")
    assert reports[name].compared > 500_000


@pytest.mark.parametrize("name", LAYERS)
def test_each_claim_is_reasoned(subjects, name):
    claims = {claim for claim in CLAIMS if getattr(subjects[name], claim) != getattr(Subject, claim)}
    less = {d.claim for d in deviations() if d.subject == name}
    assert less == claims - ({"dtypes"} if len(subjects[name].dtypes) > 2 else set())


@pytest.mark.parametrize("name", SHOWN)
def test_each_deviation_is_shown(name):
    """By at most ten lines, which fail where it is gone."""
    if "assert" not in SHOWN[name]:
        assert "as for the values" in SHOWN[name]
        return
    assert len(SHOWN[name].strip().splitlines()) <= 10
    exec(SHOWN[name], {})


def test_the_page_is_what_was_found(reports, subjects):
    """If this fails, run `python -m shared_tests.studies.builtins`."""
    assert page(reports, subjects) == PAGE.read_text()
