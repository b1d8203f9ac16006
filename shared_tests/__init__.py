"""The conformance suite, and the judge that a port's own tests import: `from shared_tests import Subject, judge`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared_tests.harness.judge import judge
    from shared_tests.harness.subject import Subject

__all__ = ["Subject", "judge"]


def __getattr__(name: str) -> Any:
    """Found when it is asked for, since every run of pytest imports this package for its plugin."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"shared_tests.harness.{name.lower()}"), name)
