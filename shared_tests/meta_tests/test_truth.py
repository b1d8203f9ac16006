"""The oracle gives what it gave: its values and sigma are frozen in goldens/truth.txt and truth.safetensors."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from shared_tests.goldens.record_truth import FOLDER, digest, stored, truths
from shared_tests.harness import rounding
from shared_tests.harness.rounding import Expected
from shared_tests.storage import read_arrays

FROZEN = dict(line.split(": ") for line in (FOLDER / "truth.txt").read_text().splitlines())
TRUTHS = truths()
ANEW = "if that is meant: python -m shared_tests.goldens.record_truth"
EXTENDED = np.finfo(np.longdouble).nmant > 52


@cache
def arrays():
    return read_arrays(FOLDER / "truth.safetensors")


def how_far(key, truth):
    """How far today's values and sigma are from those that are stored, in sigma."""
    pairs = [
        (expected, arrays()[f"{key}/{name}"], arrays()[f"{key}/{name}, sigma"]) for name, expected in stored(truth)
    ]
    moved = [(np.abs(x.value - value) / np.where(x.sigma > 0, x.sigma, 1)).max(initial=0) for x, value, _ in pairs]
    wider = [(np.abs(x.sigma - sigma) / np.where(sigma > 0, sigma, 1)).max(initial=0) for x, _, sigma in pairs]
    return max(moved, default=0.0), max(wider, default=0.0)


def test_every_case_is_frozen_and_nothing_else():
    assert list(TRUTHS) == list(FROZEN), ANEW
    assert (FOLDER / "truth.safetensors").stat().st_size < 2e6


@pytest.mark.parametrize("key", FROZEN)
def test_the_oracle_gives_what_it_gave(key):
    if key.endswith("/float64") and not EXTENDED:
        pytest.skip("this processor has no extended precision, in which float64 is frozen")
    truth = TRUTHS[key]()
    values, sigmas = how_far(key, truth)
    words = f"{key}: of what is stored, values moved by up to {values:.2g} sigma, sigma by up to {sigmas:.1%}; {ANEW}"
    assert digest(truth) == FROZEN[key], words
    assert values < 2, words  # in float64 the stored values are themselves rounded, by up to 1.7 sigma


def test_what_is_stored_is_small_cases_in_full():
    assert len({name.rpartition("/")[0] for name in arrays()}) >= 70
    assert arrays()["bias/float32/output"].dtype == np.float64


def test_a_change_shows(monkeypatch):
    """Of one value, by its sigma; of one sigma, by 1e-5; of the noise model, in every case that it is about."""
    truth = dict(TRUTHS["bias/float32"]())
    output = truth["output"]
    values, sigmas = digest(truth).split()
    moved = output.value.copy()
    moved[0, 1, 2] += output.sigma[0, 1, 2]
    assert digest(truth | {"output": replace(output, value=moved)}).split()[0] != values
    wider = output.sigma.copy()
    wider[0, 1, 2] *= 1 + 1e-5
    changed = digest(truth | {"output": replace(output, sigma=wider)}).split()
    assert changed[0] == values
    assert changed[1] != sigmas
    monkeypatch.setattr(rounding, "EXP_ROUNDINGS", 5)
    assert digest(TRUTHS["bias/float32"]()).split()[1] != sigmas


@pytest.mark.parametrize("key", ["bias/float32", "lengths per query/bfloat16", "digits/float16"])
def test_the_last_bits_are_not_told(key):
    """Another processor's BLAS changes them."""
    truth = TRUTHS[key]()
    random = np.random.default_rng(0)
    other = {
        name: Expected(*(x * (1 + random.normal(size=x.shape) * 2.0**-52) for x in (expected.value, expected.sigma)))
        for name, expected in truth.items()
    }
    assert digest(other) == FROZEN[key]
