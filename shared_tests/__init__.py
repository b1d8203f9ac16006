"""The conformance suite, and what a port's own tests import: `from shared_tests import Subject, judge`.

Beside these, what remembers answers and compares them, and what shows and measures heads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_tests.faults.diagnosis import diagnose
    from shared_tests.harness.judge import judge
    from shared_tests.harness.subject import Subject
    from shared_tests.studies.drifting import drift
    from shared_tests.studies.heads import confidence, entropy, leave_one_out
    from shared_tests.studies.heatmaps import show_heads
    from shared_tests.studies.recording import record

__all__ = [
    "Subject",
    "confidence",
    "diagnose",
    "drift",
    "entropy",
    "judge",
    "leave_one_out",
    "record",
    "show_heads",
]
MODULES = {
    "Subject": "harness.subject",
    "confidence": "studies.heads",
    "diagnose": "faults.diagnosis",
    "drift": "studies.drifting",
    "entropy": "studies.heads",
    "judge": "harness.judge",
    "leave_one_out": "studies.heads",
    "record": "studies.recording",
    "show_heads": "studies.heatmaps",
}


def __getattr__(name: str) -> Any:
    """Found when it is asked for, since every run of pytest imports this package for its plugin."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"shared_tests.{MODULES[name]}"), name)
