"""Measures of heads, by numbers that are worked out by hand."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_tests import confidence, entropy, leave_one_out
from shared_tests.studies import heads, heatmaps

ONE_HOT = np.eye(6)[[0, 3, 5, 1]]
UNIFORM = np.repeat([[1 / 3, 1 / 3, 1 / 3, 0, 0, 0]], 4, axis=0)
HALF = np.repeat([[0.5, 0.25, 0.25, 0, 0, 0]], 4, axis=0)
WEIGHTS = np.stack([ONE_HOT, UNIFORM, HALF])[None]
"""(1, 3 heads, 4 queries, 6 keys)."""


def test_entropy_by_hand():
    """0 for one key, log 3 for three alike, 1/2 log 2 + 1/2 log 4 for the third head."""
    np.testing.assert_allclose(entropy(WEIGHTS), [0, np.log(3), 1.5 * np.log(2)], rtol=1e-15)


def test_confidence_by_hand():
    np.testing.assert_allclose(confidence(WEIGHTS), [1, 1 / 3, 0.5], rtol=1e-15)


def test_the_mean_is_over_queries_of_every_sequence():
    two = np.concatenate([WEIGHTS, WEIGHTS[:, [1, 2, 0]]])
    np.testing.assert_allclose(confidence(two), [(1 + 1 / 3) / 2, (1 / 3 + 1 / 2) / 2, (1 / 2 + 1) / 2], rtol=1e-15)


@pytest.mark.parametrize("nothing", [0, -4])
def test_queries_without_a_valid_key_do_not_count(nothing):
    """Whatever stands there: uniform, as in the book, or NaN."""
    weights = WEIGHTS.copy()
    weights[:, :, 1], weights[:, :, 2] = 1 / 6, np.nan
    lengths = np.array([[3, nothing, nothing, 6]])
    np.testing.assert_allclose(entropy(weights, lengths), entropy(WEIGHTS[:, :, [0, 3]]))
    np.testing.assert_allclose(confidence(weights, lengths), confidence(WEIGHTS[:, :, [0, 3]]))
    two = np.concatenate([WEIGHTS, np.full_like(WEIGHTS, np.nan)])
    np.testing.assert_array_equal(confidence(two, np.array([3, nothing])), confidence(WEIGHTS))


def test_float16_is_summed_in_float64():
    weights = np.full((1, 1, 1, 2048), 2.0**-11, np.float16)
    np.testing.assert_allclose(entropy(weights), [np.log(2048)], rtol=1e-14)


@given(seed=st.integers(0, 2**32), heads=st.integers(1, 4), keys=st.integers(1, 9), sharpness=st.floats(0.01, 30))
def test_both_stay_in_their_bounds(seed, heads, keys, sharpness):
    """Entropy from 0 to log(keys), confidence from 1/keys to 1; and exp(-entropy) is at most the largest weight."""
    scores = sharpness * np.random.default_rng(seed).normal(size=(2, heads, 3, keys))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    wide, sure = entropy(weights), confidence(weights)
    assert wide.shape == sure.shape == (heads,)
    assert (wide >= -1e-12).all()
    assert (wide <= np.log(keys) + 1e-12).all()
    assert (sure >= 1 / keys - 1e-12).all()
    assert (np.exp(-wide) <= sure + 1e-12).all()


def test_leave_one_out_by_hand():
    """Head 1 helps by 0.25, head 0 not at all, and without head 2 it is better."""
    asked = []

    def metric(removed):
        asked.append(removed)
        return {(): 0.75, (0,): 0.75, (1,): 0.5, (2,): 0.875}[removed]

    np.testing.assert_array_equal(leave_one_out(metric, 3), [0, 0.25, -0.125])
    assert asked == [(), (0,), (1,), (2,)]


@pytest.mark.parametrize("measure", [entropy, confidence])
@pytest.mark.parametrize(
    ("weights", "lengths", "words"),
    [
        (WEIGHTS[0], None, "attention_weights: expected floats of shape (batch, heads, queries, keys), each"),
        (WEIGHTS[:, :, :0], None, "got float64 of shape (1, 3, 0, 6)"),
        (WEIGHTS.astype(int), None, "got int64 of shape (1, 3, 4, 6)"),
        (
            WEIGHTS,
            np.array([3, 2]),
            "valid_lens: expected (batch,) or (batch, queries) of (1, 3, 4, 6), got shape (2",
        ),
        (WEIGHTS, np.array(3), "got shape ()"),
        (WEIGHTS, np.array([3.0]), "valid_lens: expected integers, got float64"),
        (WEIGHTS, np.array([True]), "valid_lens: expected integers, got bool"),
        (WEIGHTS, np.array([0]), "valid_lens: expected at least one query with a valid key, got none"),
    ],
)
def test_refused_in_one_line(measure, weights, lengths, words):
    with pytest.raises((ValueError, TypeError)) as refused:
        measure(weights, lengths)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_heads_to_leave_out():
    with pytest.raises(ValueError, match=r"^num_heads: expected at least 1, got 0$"):
        leave_one_out(lambda removed: 1.0, 0)


@pytest.mark.parametrize("module", [heads, heatmaps])
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted >= 3
    assert result.failed == 0
