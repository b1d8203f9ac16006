"""The oracle, against numbers worked out by hand and against central differences: never against a framework."""

from dataclasses import replace
from math import exp, log, tanh

import numpy as np
import pytest

from shared_tests.cases.case import Config, Trial, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import oracle
from shared_tests.harness.scoring import Additive


def by_hand(config, parameters, queries, keys, values, valid_lens):
    arrays = (np.array(x, float) for x in (queries, keys, values))
    parameters = {name: np.array(w, float) for name, w in parameters.items()}
    cotangent = np.ones((len(queries), len(queries[0]), config.num_hiddens))
    lengths = None if valid_lens is None else np.array(valid_lens)
    return Trial("by hand", config, "float64", parameters, *arrays, lengths, cotangent)


TWO_HEADS = by_hand(
    Config(key_size=1, query_size=2, value_size=1, num_hiddens=2, num_heads=2),
    {
        # Queries pass through; head 0 sees the first number, head 1 the second.
        "W_q.weight": [[1, 0], [0, 1]],
        # Head 0's key is the key, head 1's is twice the key.
        "W_k.weight": [[1], [2]],
        # Head 0's value is the value, head 1's is ten times the value.
        "W_v.weight": [[1], [10]],
        # The outputs are head 0 + head 1, and head 0 - head 1.
        "W_o.weight": [[1, 1], [1, -1]],
    },
    queries=[[[log(3), 0]]],
    keys=[[[0], [1], [5]]],
    values=[[[4], [8], [100]]],
    valid_lens=[2],
)


def test_two_heads_by_hand():
    """head_dim is 1, so the scale is 1, and the third key is masked.

    Head 0: scores log 3 * [0, 1, 5] = [0, log 3, 5 log 3]; powers of the valid ones [1, 3]; weights
    [1/4, 3/4, 0]; context 4/4 + 8 * 3/4 = 7. Head 1: scores 0 * [0, 2, 10] = 0; weights [1/2, 1/2, 0];
    context (40 + 80) / 2 = 60. Output [7 + 60, 7 - 60].
    """
    stages = oracle.forward(TWO_HEADS)
    assert stages["projected_values"].value.tolist() == [[[4, 40], [8, 80], [100, 1000]]]
    assert stages["split_keys"].value.tolist() == [[[[0], [1], [5]], [[0], [2], [10]]]]
    np.testing.assert_allclose(stages["scores"].value[0, :, 0], [[0, log(3), 5 * log(3)], [0, 0, 0]], rtol=1e-15)
    weights = stages["attention_weights"].value[0, :, 0]
    np.testing.assert_allclose(weights, [[1 / 4, 3 / 4, 0], [1 / 2, 1 / 2, 0]], rtol=1e-15)
    np.testing.assert_allclose(stages["context"].value[0, :, 0], [[7], [60]], rtol=1e-15)
    np.testing.assert_allclose(stages["concatenation"].value, [[[7, 60]]], rtol=1e-15)
    np.testing.assert_allclose(stages["output"].value, [[[67, -53]]], rtol=1e-15)


def test_biases_by_hand():
    """Biases: 1 on queries of head 1, whose scores become [0, 2]; 3 on its values; 5 on the first output.

    Head 1: weights [1, e^2] / (1 + e^2); values 40 + 3 and 80 + 3; context 43 + 40 e^2 / (1 + e^2).
    """
    biases = {"W_q.bias": [0, 1], "W_k.bias": [0, 0], "W_v.bias": [0, 3], "W_o.bias": [5, 0]}
    parameters = TWO_HEADS.parameters | {name: np.array(bias, float) for name, bias in biases.items()}
    stages = oracle.forward(replace(TWO_HEADS, config=replace(TWO_HEADS.config, bias=True), parameters=parameters))
    context = 43 + 40 * exp(2) / (1 + exp(2))
    np.testing.assert_allclose(stages["context"].value[0, 1], [[context]], rtol=1e-14)
    np.testing.assert_allclose(stages["output"].value, [[[7 + context + 5, 7 - context]]], rtol=1e-14)


def test_scale_by_hand():
    """One head of head_dim 4, query and key all ones: the score is 4 / sqrt 4 = 2, beside 0 for a key of zeros."""
    identity = np.eye(4)
    config = Config(key_size=4, query_size=4, value_size=4, num_hiddens=4, num_heads=1)
    weights = {f"{name}.weight": identity for name in ("W_q", "W_k", "W_v", "W_o")}
    trial = by_hand(config, weights, [[[1] * 4]], [[[1] * 4, [0] * 4]], [[[1, 2, 3, 4], [0] * 4]], None)
    weight = exp(2) / (exp(2) + 1)
    stages = oracle.forward(trial)
    np.testing.assert_allclose(stages["scores"].value.ravel(), [2, 0], rtol=1e-15)
    np.testing.assert_allclose(stages["output"].value.ravel(), weight * np.array([1, 2, 3, 4]), rtol=1e-14)


def test_lengths_by_hand():
    """Scores all 0, so the weights are 1/n over n valid keys: 1 of 3, none (uniform over 3), too many (3 of 3)."""
    parameters = TWO_HEADS.parameters | {"W_q.weight": np.zeros((2, 2))}
    queries = np.zeros((1, 4, 2))
    trial = replace(TWO_HEADS, parameters=parameters, queries=queries, valid_lens=np.array([[1, 0, 9, -2]]))
    third = 1 / 3
    expected = [[1, 0, 0], [third] * 3, [third] * 3, [third] * 3]
    np.testing.assert_allclose(oracle.forward(trial)["attention_weights"].value[0, 0], expected, rtol=1e-15)


def test_additive_by_hand():
    """Head 0 of head_dim 1, query log 3, keys 0, 1 and 5: the score is w_v . tanh(W_q q + W_k k).

    With W_q = [1, 0], W_k = [0, 1] and w_v = [2, 3], it is 2 tanh(log 3) + 3 tanh k, where
    tanh(log 3) = (9 - 1) / (9 + 1) = 0.8. The common 1.6 cancels; powers are [1, exp(3 tanh 1)].
    """
    scoring = {"attention.W_q.weight": [[1], [0]], "attention.W_k.weight": [[0], [1]], "attention.w_v.weight": [[2, 3]]}
    parameters = TWO_HEADS.parameters | {name: np.array(w, float) for name, w in scoring.items()}
    config = replace(TWO_HEADS.config, scoring=Additive(2))
    stages = oracle.forward(replace(TWO_HEADS, config=config, parameters=parameters))
    np.testing.assert_allclose(stages["scores"].value[0, 0, 0], [1.6, 1.6 + 3 * tanh(1), 1.6 + 3 * tanh(5)], rtol=1e-14)
    power = exp(3 * tanh(1))
    weights = stages["attention_weights"].value[0, 0, 0]
    np.testing.assert_allclose(weights, [1 / (1 + power), power / (1 + power), 0], rtol=1e-14)


def test_gradients_by_hand():
    """The cotangent is 1 on both outputs, of which the sum is 2 head 0; so head 1 and the masked key get 0.

    Head 0: weights [1/4, 3/4], values [4, 8], mean 7: the scores get 2 w (v - 7) = [-3/2, 3/2], the values
    2 w = [1/2, 3/2]. So the query gets -3/2 * 0 + 3/2 * 1 = 3/2, the keys log 3 * [-3/2, 3/2].
    """
    gradients = oracle.backward(TWO_HEADS, oracle.forward(TWO_HEADS))
    np.testing.assert_allclose(gradients["queries"].value, [[[1.5, 0]]], atol=1e-14)
    np.testing.assert_allclose(gradients["keys"].value[0, :, 0], [-1.5 * log(3), 1.5 * log(3), 0], atol=1e-14)
    np.testing.assert_allclose(gradients["values"].value[0, :, 0], [0.5, 1.5, 0], atol=1e-14)
    np.testing.assert_allclose(gradients["W_o.weight"].value, [[7, 60], [7, 60]], rtol=1e-14)
    np.testing.assert_allclose(gradients["W_v.weight"].value, [[0.5 * 4 + 1.5 * 8], [0]], atol=1e-13)
    assert gradients["keys"].value[0, 2, 0] == gradients["values"].value[0, 2, 0] == 0


@pytest.mark.parametrize("name", ["bias, lengths per query", "zero lengths", "additive", "causal"])
def test_gradients_are_central_differences(name):
    trial = draw(name, CASES[name], "float64")
    gradients = oracle.backward(trial, oracle.forward(trial))
    random, step = np.random.default_rng(0), 1e-6

    def loss(changed):
        return float((oracle.forward(changed)["output"].value * trial.cotangent).sum())

    def moved(quantity, index, by):
        arrays = trial.parameters | {x: getattr(trial, x) for x in ("queries", "keys", "values")}
        array = arrays[quantity].copy()
        array[index] += by
        if quantity in trial.parameters:
            return replace(trial, parameters=trial.parameters | {quantity: array})
        return replace(trial, **{quantity: array})

    assert set(gradients) == {"queries", "keys", "values", *trial.parameters}
    for quantity, gradient in gradients.items():
        for _ in range(3):
            index = tuple(random.integers(size) for size in gradient.value.shape)
            difference = loss(moved(quantity, index, step)) - loss(moved(quantity, index, -step))
            assert abs(difference / (2 * step) - gradient.value[index]) < 1e-7, (quantity, index)
