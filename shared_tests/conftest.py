"""Which subjects are under test: the three. A missing framework is a skip here, and a failure in CI."""

import os

import pytest

from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge
from shared_tests.storage import programs_folder


def _find(name):
    try:
        return find(name, programs=programs_folder())
    except ImportError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name}: {error}")


@pytest.fixture(scope="session", params=OURS)
def subject(request):
    """Each implementation in turn."""
    return _find(request.param)


@pytest.fixture(scope="session")
def subjects():
    """The three implementations."""
    return [_find(name) for name in OURS]


@pytest.fixture(scope="session")
def report(subjects):
    """What `trihead verify` finds."""
    return judge(*subjects)
