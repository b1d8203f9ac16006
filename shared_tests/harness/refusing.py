"""Clause group 6: whether a bad input is refused with the error and the words of the contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_tests.cases.refusals import Mesh, Module, Refusal, arguments
from shared_tests.harness.compare import Verdict, failure


def refuses(subject: Any, row: Refusal) -> Verdict:
    """The call raises the row's error, type and words alike, and nothing else."""
    function = subject.callable(row.call)
    given = {name: _given(subject, x) for name, x in arguments(row.call, row.changes).items()}
    try:
        function(**given)
    except Exception as error:
        if (type(error), str(error)) == (row.error, row.words):
            return Verdict(1)
        return failure(f"{row.number}: expected {row.error.__name__}: {row.words}, got {type(error).__name__}: {error}")
    return failure(f"{row.number}: expected {row.error.__name__}: {row.words}, got no error")


def _given(subject: Any, value: Any) -> Any:
    """An argument as the framework takes it."""
    if isinstance(value, np.ndarray):
        return subject.backend.tensor(value, str(value.dtype))
    if isinstance(value, (list, tuple)):
        return type(value)(_given(subject, x) for x in value)
    if isinstance(value, Mesh):
        return subject.backend.mesh(value.shape)
    return subject.make(value.name, *value.arguments) if isinstance(value, Module) else value
