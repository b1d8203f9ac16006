"""The conformance suite, and the judge that a port's own tests import: `from shared_tests import Subject, judge`."""

from shared_tests.harness.judge import judge
from shared_tests.harness.subject import Subject

__all__ = ["Subject", "judge"]
