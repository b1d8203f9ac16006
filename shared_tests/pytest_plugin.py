"""pytest's plugin: the options of `pytest --pyargs shared_tests --subject FILE.py:Class`; nothing in any other run.

They cannot stand in conftest.py: with --pyargs pytest reads that only after it has read its options.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Options:
    """What a run of the suite is told."""

    def pytest_addoption(self, parser):
        group = parser.getgroup("trihead")
        group.addoption("--subject", help="judge this one alone: a name from shared_tests/subjects, or FILE.py:Class")
        group.addoption("--known", help="a TOML file of differences that are known, checked strictly")

    def pytest_configure(self, config):
        if config.getoption("--known") and not config.getoption("--subject"):
            raise pytest.UsageError("--known: expected with --subject, got it alone")

    def pytest_report_header(self, config):
        from shared_tests.studies.installation import versions

        subject = config.getoption("--subject")
        installed = ", ".join(f"{name} {version}" for name, version in versions().items())
        return [f"trihead: {installed}", *([f"trihead: judges {subject}"] if subject else [])]


def pytest_load_initial_conftests(early_config, args):
    if any(_is_ours(argument) for argument in [*args, *early_config.getini("testpaths")]):
        early_config.pluginmanager.register(Options(), "trihead options")


def _is_ours(argument):
    """Whether this is the package's name, or a path in it, or neither: some other option."""
    path = argument.partition("::")[0]
    return path.split(".")[0] == HERE.name or (
        not path.startswith("-") and HERE in [p := Path(path).resolve(), *p.parents]
    )
