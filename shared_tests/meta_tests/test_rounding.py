"""The gate: neither loose nor tight by luck, and it bites."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from shared_tests.cases.case import Case, draw
from shared_tests.cases.table import BIASED
from shared_tests.faults.precision import ADDITIVE_PRODUCTS, DOT_PRODUCTS, Faulty, faults
from shared_tests.harness import compare, oracle
from shared_tests.harness.rounding import FORMATS, Rounded, sum_of_products, to_format
from shared_tests.harness.scoring import Additive
from shared_tests.studies.calibration import QUANTITIES, REGIMES, calibrate

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_errors_are_as_predicted(subject, dtype):
    """Per quantity: the median error is above 0.05 sigma, so sigma is not loose; the worst below 8."""
    calibrations = calibrate([subject], [dtype])
    assert {c.quantity for c in calibrations} == set(QUANTITIES)
    for calibration in calibrations:
        assert calibration.elements > 50_000
        assert calibration.median > 0.05, calibration
        assert calibration.worst < 8, calibration


def test_there_are_regimes_enough():
    cases = REGIMES.values()
    assert len(cases) >= 40
    assert {1, 512} <= {case.config.num_hiddens for case in cases}
    assert min(case.config.head_dim for case in cases) == 1
    assert max(case.config.head_dim for case in cases) == 128
    assert max(case.queries for case in cases) == max(case.keys for case in cases) == 512
    assert min(case.spread for case in cases) == 1e-3
    assert max(case.spread for case in cases) == 30


SEEDS = 10
DOT = Case(BIASED, valid_lens=(5, 7))
ADDITIVE = Case(replace(BIASED, scoring=Additive(17)), valid_lens=(5, 7))
PLANTED = [(DOT, fault) for fault in faults(DOT_PRODUCTS)] + [(ADDITIVE, fault) for fault in faults(ADDITIVE_PRODUCTS)]


def holds(case, fault, dtype, seed):
    trial = draw(f"seed {seed}", case, dtype)
    truth, subject = oracle.forward(trial), Faulty(fault)
    output, weights = subject.forward(subject.build(trial.config, trial.parameters, dtype), *trial.inputs)
    return (
        compare.within_gate(output, truth["output"]).holds
        and compare.within_gate(weights, truth["attention_weights"]).holds
    )


@pytest.mark.parametrize(
    ("case", "fault"), PLANTED, ids=lambda x: str(x) if not isinstance(x, Case) else x.config.scoring.module
)
def test_a_loss_of_precision_fails(case, fault):
    """float32 arithmetic is a fault of a float64 module, the others of a float32 one."""
    dtype = "float64" if fault.kind == "float32" else "float32"
    assert sum(not holds(case, fault, dtype, seed) for seed in range(SEEDS)) >= 0.9 * SEEDS


@pytest.mark.parametrize(("case", "dtype"), [*product((DOT, ADDITIVE), ("float64", "float32"))])
def test_without_a_fault_it_holds(case, dtype):
    assert all(holds(case, None, dtype, seed) for seed in range(SEEDS))


def test_to_format_rounds_to_nearest_even():
    third = to_format(np.array([1 / 3, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8]), "bfloat16")
    np.testing.assert_array_equal(third, np.array([0.333984375, 1.0, 1.015625, -1.0], np.float32))
    assert to_format(0.1, "float16") == np.float16(0.1)


def test_variance_of_a_sum_of_products_by_hand():
    """Two products, 1*3 and 2*4, of exact numbers: u^2/3 (2 (9 + 64) + 2/3 11^2)."""
    a, b = Rounded.exact([1.0, 2.0], "float32"), Rounded.exact([3.0, 4.0], "float32")
    expected = 2.0**-48 / 3 * (2 * (9 + 64) + 2 / 3 * 11**2)
    assert (a @ b).value == 11
    assert (a @ b).variance == pytest.approx(expected, rel=1e-12)


def test_variance_of_a_half_precision_sum_adds_one_rounding():
    a, b = Rounded.exact([1.0, 2.0], "float16"), Rounded.exact([3.0, 4.0], "float16")
    summed = 2.0**-48 / 3 * (2 * (9 + 64) + 2 / 3 * 11**2) + 2 * 2.0**-48
    assert (a @ b).variance == pytest.approx(summed + 2.0**-22 / 3 * 121 + 2.0**-48, rel=1e-12)


def test_an_error_passes_through_the_product_of_two_matrices():
    """a has error s; in (a [1, 1]) [1, 1]^T it comes twice, so with variance (2 s)^2 and not 2 s^2."""
    a = Rounded(np.array([1.0]), np.array([1.0]), FORMATS["float64"])
    once, twice = Rounded.exact([[1.0, 1.0]], "float64"), Rounded.exact([[1.0], [1.0]], "float64")
    assert (a @ once).variance == pytest.approx([1, 1])
    assert (a @ once @ twice).variance == pytest.approx([4])
    assert sum_of_products([(a @ once, twice)]).variance == pytest.approx([4])
    assert ((a @ once)[:] @ twice).variance == pytest.approx([2])


@pytest.mark.parametrize("operation", ["matmul", "softmax", "tanh", "mul", "add", "div", "sum", "log"])
def test_variance_is_that_of_perturbed_inputs(operation):
    """Against 20,000 draws of the errors that the operands are said to have."""
    shape, draws = (6,), 20_000
    value, other = RANDOM.uniform(0.5, 2, shape), RANDOM.uniform(0.5, 2, shape)
    sigma = RANDOM.uniform(0.5, 2, shape) * 1e-6
    noisy = value + sigma * RANDOM.normal(size=(draws, *shape))
    x, y = Rounded(value, sigma**2, FORMATS["float64"]), Rounded.exact(other, "float64")
    predicted, drawn = {
        "matmul": lambda: (x @ y, noisy @ other),
        "softmax": lambda: (x.softmax(), np.exp(noisy) / np.exp(noisy).sum(axis=1, keepdims=True)),
        "tanh": lambda: (x.tanh(), np.tanh(noisy)),
        "mul": lambda: (x * y, noisy * other),
        "add": lambda: (x + y, noisy + other),
        "div": lambda: (x / 3.0, noisy / 3),
        "sum": lambda: (x.sum(axis=0), noisy.sum(axis=1)),
        "log": lambda: (x.log(), np.log(noisy)),
    }[operation]()
    np.testing.assert_allclose(predicted.sigma.astype(float), drawn.std(axis=0), rtol=0.05)
