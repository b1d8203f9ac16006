"""The conformance suite, and what a port's own tests import: `from shared_tests import Subject, judge`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_tests.faults.diagnosis import diagnose
    from shared_tests.harness.judge import judge
    from shared_tests.harness.subject import Subject
    from shared_tests.studies.drifting import drift
    from shared_tests.studies.recording import record

__all__ = ["Subject", "diagnose", "drift", "judge", "record"]
MODULES = {
    "Subject": "harness.subject",
    "diagnose": "faults.diagnosis",
    "drift": "studies.drifting",
    "judge": "harness.judge",
    "record": "studies.recording",
}


def __getattr__(name: str) -> Any:
    """Found when it is asked for, since every run of pytest imports this package for its plugin."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"shared_tests.{MODULES[name]}"), name)
