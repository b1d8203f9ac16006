"""The comparisons themselves: what must fail does."""

import numpy as np
import pytest

from shared_tests.harness import compare
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.compare import BINS, Verdict
from shared_tests.harness.known import Finding, KnownDifference, excuse, read_known
from shared_tests.harness.report import Report, describe
from shared_tests.harness.rounding import GATE, Expected


def exact(value):
    return Expected(np.array(value), np.zeros(np.shape(value)))


ONES = Expected(np.ones(3), np.full(3, 0.1))


def test_gate_is_in_sigma():
    verdict = compare.within_gate(np.array([1.0, 1.0 + 0.1 * GATE * 0.99, 1.0]), ONES)
    assert verdict.holds
    assert verdict.worst == pytest.approx(0.99 * GATE)
    assert compare.within_gate(np.array([1.0, 1.0 - 0.1 * GATE * 1.01, 1.0]), ONES).failed == 1


def test_histogram_is_in_bins_of_sigma():
    truth = Expected(np.zeros(6), np.array([0.5, 0.5, 0.5, 0.5, 0.0, 0.0]))
    actual = np.array([GATE / BINS, 1.01 * GATE / BINS, GATE, np.nan, 0.0, 1.0]) / 2
    found = compare.within_gate(actual, truth)
    assert found.histogram == (1, 1, *[0] * (BINS - 3), 1, 2)  # and what has neither error nor noise is left out
    assert found.failed == found.histogram[-1]


def test_of_what_is_not_kept_nothing_is_asked():
    found = compare.within_gate(np.array([1.0, 5.0, np.nan]), ONES, np.array([True, False, False]))
    assert (found.compared, found.failed, found.worst, sum(found.histogram)) == (1, 0, 0, 1)
    assert compare.within_gate(np.ones(3), ONES, np.zeros(3, bool)) == Verdict()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gate_fails_what_is_no_number(bad):
    verdict = compare.within_gate(np.array([1.0, bad, 1.0]), ONES)
    assert verdict.failed == 1
    assert verdict.worst == np.inf
    assert "expected 1" in verdict.note


def test_gate_wants_the_exact_number_where_there_is_no_noise():
    truth = exact([0.0, 2.0])
    assert compare.within_gate(np.array([0.0, 2.0]), truth).holds
    assert compare.within_gate(np.array([5e-324, 2.0]), truth).failed == 1


def test_gate_fails_another_shape():
    assert compare.within_gate(np.ones((3, 1)), ONES).failed == 3
    assert compare.within_gate(np.ones(1), ONES).failed == 3


def test_zero_comparisons_do_not_hold():
    assert not compare.within_gate(np.ones((0, 3)), exact(np.ones((0, 3)))).holds
    assert not Verdict().holds


def test_bits_differ_after_rounding():
    truth = exact([1.0])
    left = np.array([1.0])
    assert compare.bit_identical(left, left.copy(), truth).holds
    assert compare.bit_identical(left, left + 1e-9, truth).holds
    assert compare.bit_identical(left, left + 1e-6, truth).failed == 1
    assert compare.bit_identical(np.array([np.nan]), np.array([np.nan]), truth).failed == 1


def test_bits_are_excused_only_astride_a_boundary():
    boundary = 1 + 2.0**-24  # halfway between two float32 numbers
    truth = Expected(np.array([boundary]), np.array([1e-15]))
    below, above = np.array([boundary - 2e-15]), np.array([boundary + 2e-15])
    verdict = compare.bit_identical(below, above, truth)
    assert (verdict.failed, verdict.excused) == (0, 1)
    far = np.array([boundary + 2e-14])
    assert compare.bit_identical(below, far, truth).failed == 1


def test_same_bits():
    assert compare.same_bits(np.array([0.0]), np.array([-0.0]), "zero").holds
    assert compare.same_bits(np.array([np.nan]), np.array([np.nan]), "nan").failed == 1
    assert compare.same_bits(np.ones(2), np.ones(3), "shape").failed == 1


def test_shape_and_dtype():
    assert compare.shape_and_dtype(np.ones((2, 3)), (2, 3), "float64").holds
    assert compare.shape_and_dtype(np.ones((3, 2)), (2, 3), "float64").failed == 1
    assert compare.shape_and_dtype(np.ones((2, 3)), (2, 3), "float32").failed == 1
    assert compare.shape_and_dtype(np.ones(1, np.float32), (1,), "bfloat16").holds
    assert compare.shape_and_dtype(np.full(1, 1.001, np.float32), (1,), "bfloat16").failed == 1


def test_rows_that_do_not_sum_to_one():
    rows = np.full((2, 4), 0.25)
    assert compare.rows_sum_to_one(rows, "float64").holds
    assert compare.rows_sum_to_one(rows * [[1], [1 + 1e-13]], "float64").failed == 1


def test_verdicts_add_up():
    total = Verdict(3, 0, 1.5, histogram=(2, 1)) + Verdict(4, 2, 9.0, note="bad", histogram=(1, 3)) + Verdict(1)
    assert (total.compared, total.failed, total.worst, total.note) == (8, 2, 9.0, "bad")
    assert total.histogram == (3, 4)


def test_known_difference_is_excused_and_strict():
    entry = KnownDifference("4.2", "why", "a", "float16", what=".bias")
    failing = Finding("4.2", "a", "case", "float16", Verdict(5, 2, 30.0, note="off", what="W_o.bias"))
    holding = Finding("4.2", "a", "case", "float16", Verdict(5, 0, 1.0, what="W_o.bias"))
    elsewhere = Finding("4.2", "a", "case", "float32", Verdict(5, 2, 30.0, what="W_o.bias"))
    (excused,) = excuse([failing], [entry])
    assert (excused.verdict.failed, excused.verdict.excused) == (0, 2)
    assert excuse([elsewhere], [entry]) == [elsewhere]
    assert "remove the entry" in excuse([holding], [entry])[-1].verdict.note


@pytest.mark.parametrize("releases", ["numpy>=1", "numpy!=1.0,>=1"])
def test_within_its_releases_an_entry_is_strict(releases):
    entry = KnownDifference("4.2", "why", "a", releases=releases)
    failing = Finding("4.2", "a", "case", "float16", Verdict(5, 2, 30.0))
    assert excuse([failing], [entry])[0].verdict.excused == 2
    holding = Finding("4.2", "a", "case", "float16", Verdict(5, 0, 1.0))
    assert (
        f"lists 4.2, {releases}, which no longer differs: remove the entry, or narrow"
        in excuse([holding], [entry])[-1].verdict.note
    )


@pytest.mark.parametrize("releases", ["numpy<1", "no-such-package>=1"])
def test_outside_its_releases_an_entry_is_left_aside(releases):
    entry = KnownDifference("4.2", "why", "a", releases=releases)
    failing = Finding("4.2", "a", "case", "float16", Verdict(5, 2, 30.0))
    holding = Finding("4.2", "a", "case", "float16", Verdict(5, 0, 1.0))
    assert excuse([failing, holding], [entry]) == [failing, holding]
    assert excuse([failing, holding], [entry], "a port's list") == [failing, holding]


@pytest.mark.parametrize(
    "releases", ["jax", "no range", "jax[cpu]>=1", "jax>=1; python_version > '3'", "jax @ file:///x"]
)
def test_what_is_no_range_of_releases_is_refused(releases, tmp_path):
    path = tmp_path / "known.toml"
    path.write_text(f'[[difference]]\nclause = "4.2"\nreason = "why"\nreleases = "{releases}"\n')
    with pytest.raises(
        ValueError, match=r"known\.toml: releases: expected a package and a range, such as jax>=0.12, got"
    ):
        read_known(path)


def test_report_of_nothing_does_not_hold():
    assert not Report([], []).holds
    assert not Report(["a"], []).holds
    assert "nothing was compared" in Report(["a"], []).verdict()


def test_report_fails_with_one_finding():
    good = [Finding(clause, "a", "case", "float64", Verdict(1)) for clause in CLAUSES]
    assert Report(["a"], good).holds
    bad = Report(["a"], [*good, Finding("3.1", "a", "case", "float64", Verdict(2, 1))])
    assert not bad.holds
    assert bad.verdict() == "FAILS: a: clauses 3.1"
    assert bad.as_json()["failures"][0]["clause"] == "3.1"
    assert describe(bad.cell("3.1", "a")) == "✗ 1 differ of 3"


def test_a_large_deviation_is_said_in_few_digits():
    assert describe(Verdict(3, 1, 3.4567)) == "✗ 3.46σ of 3"
    assert describe(Verdict(3, 1, 2.1e15)) == "✗ 2.1e+15σ of 3"
    assert describe(Verdict(3, 1, np.inf)) == "✗ infσ of 3"
