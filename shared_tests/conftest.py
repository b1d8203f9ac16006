"""Which subjects are under test: the three, or one that is named.

`pytest --pyargs shared_tests --subject FILE.py:Class` runs the suite proper, a test for each clause, on a port;
`-k 3.1` chooses clauses, `--junitxml` writes JUnit. A framework of ours that is missing is a skip, and a failure in CI.
"""

import os
from pathlib import Path

import pytest

from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.storage import programs_folder

SUITE = "test_clause_holds"
"""The one test that is of any subject: all others are of our own packages, or of the judge."""


def option(config, name):
    """One of the options of `pytest_plugin`; None in a run that has not been told any."""
    return config.getoption(name, None)


def pytest_ignore_collect(collection_path, config):
    if option(config, "--subject") and collection_path.name.startswith("test_"):
        return collection_path != Path(__file__).parent / "test_verify.py"
    return None


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames and metafunc.function.__name__ == SUITE:
        metafunc.parametrize("name", _names(metafunc.config))


def pytest_collection_modifyitems(config, items):
    if option(config, "--subject"):
        left_out = [item for item in items if getattr(item, "originalname", "") != SUITE]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _names(config):
    subject = option(config, "--subject")
    return [subject] if subject else OURS


def _find(name):
    try:
        return find(name, programs=programs_folder())
    except ImportError as error:
        if os.environ.get("CI") or name not in OURS:
            raise
        pytest.skip(f"{name}: {error}")


@pytest.fixture(scope="session", params=OURS)
def subject(request):
    """Each implementation in turn."""
    return _find(request.param)


@pytest.fixture(scope="session")
def subjects(pytestconfig):
    """The three implementations, or the one that is judged."""
    try:
        return [_find(name) for name in _names(pytestconfig)]
    except (ValueError, ImportError) as error:
        pytest.exit(f"trihead: {error}", pytest.ExitCode.USAGE_ERROR)


@pytest.fixture(scope="session")
def report(subjects, pytestconfig):
    """What `trihead verify` finds."""
    try:
        return judge(*subjects, known=option(pytestconfig, "--known"))
    except ValueError as error:
        pytest.exit(f"trihead: {error}", pytest.ExitCode.USAGE_ERROR)
