"""Clause group 6: whether a bad input is refused with the error and the words of the contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_tests.cases.refusals import Refusal, arguments
from shared_tests.harness.compare import Verdict, failure


def refuses(subject: Any, row: Refusal) -> Verdict:
    """The call raises the row's error, type and words alike, and nothing else."""
    values = arguments(row.call, row.changes)
    tensor, function = subject.backend.tensor, subject.callable(row.call)
    values = {name: tensor(x, str(x.dtype)) if isinstance(x, np.ndarray) else x for name, x in values.items()}
    try:
        function(**values)
    except Exception as error:
        if (type(error), str(error)) == (row.error, row.words):
            return Verdict(1)
        return failure(f"{row.number}: expected {row.error.__name__}: {row.words}, got {type(error).__name__}: {error}")
    return failure(f"{row.number}: expected {row.error.__name__}: {row.words}, got no error")
