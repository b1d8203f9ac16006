"""Clause group 8, of the frameworks' own dropout: what each promises, seen from outside.

With values = identity the output is the weights after dropout. One mask given to the three is a case
of `trihead verify` (clause 8.3).
"""

from math import sqrt

import numpy as np
import pytest

from shared_tests.harness.rounding import FORMATS

BATCH, QUERIES, KEYS = 8, 32, 32
ELEMENTS = BATCH * QUERIES * KEYS


@pytest.fixture(params=[0.1, 0.5], ids=["0.1", "0.5"])
def dropped(subject, request):
    """(dropout, weights before it, output): in training, with values = identity."""
    random = np.random.default_rng(0)
    queries, keys = random.normal(size=(BATCH, QUERIES, 5)), random.normal(size=(BATCH, KEYS, 5))
    identity = np.broadcast_to(np.eye(KEYS), (BATCH, KEYS, KEYS)).copy()
    layer = subject.training(subject.make("DotProductAttention", request.param, dtype="float64"))
    output, weights = subject.backend.run(layer, queries, keys, identity, need_weights=True)
    return request.param, weights, output


def test_kept_entries_are_scaled_and_the_rest_are_zero(dropped):
    """Exactly weights / (1 - p), in the two roundings that a scale and a product or quotient take."""
    p, weights, output = dropped
    kept = output != 0
    error = np.abs(output[kept] * (1 - p) / weights[kept] - 1)
    assert error.max() <= 4 * FORMATS["float64"].unit
    assert not output[~kept].any()


def test_weights_are_those_before_dropout(dropped):
    _, weights, _ = dropped
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)


def test_rate_is_within_its_binomial_interval(dropped):
    p, _, output = dropped
    assert abs((output == 0).mean() - p) < 5 * sqrt(p * (1 - p) / ELEMENTS)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["entries", "queries", "keys"])
def test_masks_are_independent_along(dropped, axis):
    """Neighbours agree as often as independent ones: p^2 + (1-p)^2. A mask that is shared always agrees."""
    p, _, output = dropped
    kept = np.moveaxis(output != 0, axis, 0)
    agree, expected = (kept[1:] == kept[:-1]).mean(), p**2 + (1 - p) ** 2
    assert abs(agree - expected) < 8 * sqrt(expected * (1 - expected) / kept[1:].size)


def test_heads_have_masks_of_their_own(subject):
    """Through the layer: heads of one batch entry that have the same weights drop different entries."""
    layer = subject.make("MultiHeadAttention", 16, 16, 16, 16, 2, 0.5, dtype="float64")
    one = np.tile(np.eye(8), (2, 1))  # both heads see the first eight numbers
    weights = {f"{name}.weight": np.concatenate([one, 0 * one], axis=1) for name in ("W_q", "W_k", "W_v")}
    with subject.backend.numbers("float64"):
        subject.package.load_weights(layer, weights | {"W_o.weight": np.eye(16)})
    x = np.concatenate([np.eye(8), np.zeros((8, 8))], axis=1)[None].repeat(16, axis=0)
    still = subject.backend.run(layer, x, x, x)
    np.testing.assert_array_equal(still[..., :8], still[..., 8:])
    moved = subject.backend.run(subject.training(layer), x, x, x)
    first, second = moved[..., :8] != 0, moved[..., 8:] != 0
    agree = (first == second).mean()
    assert abs(agree - 0.5) < 5 * sqrt(0.25 / first.size)


def test_off_in_evaluation(subject):
    queries = np.random.default_rng(1).normal(size=(2, 3, 5))
    runs = [
        subject.backend.run(subject.make("DotProductAttention", p, dtype="float64"), queries, queries, queries)
        for p in (0.0, 0.5, 0.5)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])


def test_another_mask_every_call(subject):
    queries = np.random.default_rng(1).normal(size=(2, 9, 5))
    layer = subject.training(subject.make("DotProductAttention", 0.5, dtype="float64"))
    first, second = (subject.backend.run(layer, queries, queries, queries) for _ in range(2))
    assert (first != second).any()
