"""Comparisons that know what a subject claims, and the names of what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness import compare
from shared_tests.harness.compare import Verdict
from shared_tests.harness.rounding import Array, Expected


def shape_and_dtype(actual: Array, expected: Expected, dtype: str, what: str) -> Verdict:
    """What clause 1.1 says; NaN is a number of every dtype."""
    numbers = np.where(np.isnan(actual), np.zeros((), actual.dtype), actual)
    return replace(compare.shape_and_dtype(numbers, expected.value.shape, dtype), what=what)


def by_claim(actual: Array, expected: Expected, trial: Trial) -> Verdict:
    """Within the gate, but for rows without a valid key that the subject claims to be NaN, or nothing in particular."""
    if actual.shape != expected.value.shape or not trial.left_out.any():
        return compare.within_gate(actual, expected)
    out = like(trial.left_out, actual)
    verdict = compare.within_gate(actual, expected, ~out[..., None])
    return verdict + are_nan(actual[out]) if trial.rows_without_key == "nan" else verdict


def are_nan(rows: Array) -> Verdict:
    failed = int((~np.isnan(rows)).sum())
    return Verdict(rows.size, failed, note=f"{failed} of {rows.size} are not NaN without a valid key" if failed else "")


def like(rows: Array, actual: Array) -> Array:
    """(batch, queries) as all axes but the last of `actual`, which may have heads between the two."""
    return np.broadcast_to(rows if actual.ndim == 3 else rows[:, None], actual.shape[:-1])


def unchanged(actual: Array, expected: Array, what: str) -> Verdict:
    """The same bits; and where both are NaN, they are the same as well: that, another clause says."""
    if actual.shape == expected.shape:
        both = np.isnan(actual) & np.isnan(expected)
        actual, expected = np.where(both, 0, actual), np.where(both, 0, expected)
    return replace(compare.same_bits(actual, expected, what), what=what)


def named(name: str, arrays: Mapping[str, Array], truth: Expected) -> Verdict:
    """Within the gate, of the array of this name."""
    if name not in arrays:
        return replace(compare.failure("missing"), what=name)
    return replace(compare.within_gate(arrays[name], truth), what=name)
