"""exp, tanh and log are right to 3 units in the last place, and the same on every processor."""

import hashlib
from decimal import Decimal, localcontext

import numpy as np
import pytest

from shared_tests.harness.elementary import exp, log, tanh

EXACT = {
    exp: Decimal.exp,
    tanh: lambda x: ((2 * x).exp() - 1) / ((2 * x).exp() + 1),
    log: Decimal.ln,
}
DIGESTS = {exp: "4a403ff9dd16acc5", tanh: "a7c30c79cc5c4cfe", log: "4246dfc694a4fcef"}
"""Of the float64 results for `arguments(float)`."""
functions = pytest.mark.parametrize("function", EXACT, ids=lambda function: function.__name__)


def arguments(function, dtype):
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(scale=scale, size=200) for scale in (1e-9, 1e-3, 0.1, 1, 10, 100)]).astype(dtype)
    x += random.normal(scale=1e-18, size=x.shape).astype(dtype)  # with bits that float64 does not have
    return np.abs(x) if function is log else x


def exactly(x):
    first = float(x)
    return Decimal(first) + Decimal(float(x - first))


@functions
@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_within_three_units_in_the_last_place(function, dtype):
    x = arguments(function, dtype)
    got = function(x)
    assert got.dtype == dtype
    with localcontext(prec=60):
        for argument, result in zip(x, got, strict=True):
            off = abs(exactly(result) - EXACT[function](exactly(argument)))
            assert off < 3 * exactly(np.spacing(np.abs(result))), argument


@functions
def test_the_same_bits_on_every_processor(function):
    got = function(arguments(function, np.float64))
    assert hashlib.sha256(got.tobytes()).hexdigest()[:16] == DIGESTS[function]


def test_at_the_ends():
    assert exp(np.array([0.0, -1e308, np.finfo(np.float64).min])).tolist() == [1, 0, 0]
    assert tanh(np.array([0.0, -1e308, 1e308])).tolist() == [0, -1, 1]
    assert log(np.array([1.0, 2.0**-1000, 2.0**1000])).tolist() == [0, -693.1471805599453, 693.1471805599453]
    assert np.isnan(exp(np.array(np.nan)))
