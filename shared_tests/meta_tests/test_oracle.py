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


def test_importance_by_hand():
    """Head 0 finds 4/4 + 8 * 3/4 = 7, head 1, whose scores are equal, the mean of 40 and 80.

    The output is (7 + 60, 7 - 60); with a cotangent of ones a gate on head 0 adds 7 + 7, one on head 1 60 - 60.
    """
    stages = oracle.forward(TWO_HEADS)
    np.testing.assert_allclose(stages["context"].value[0, :, 0, 0].astype(float), [7, 60])
    np.testing.assert_allclose(oracle.importance(TWO_HEADS, stages).value.astype(float), [14, 0], atol=1e-14)
    first = replace(TWO_HEADS, cotangent=np.array([[[1.0, 0.0]]]))
    np.testing.assert_allclose(oracle.importance(first, stages).value.astype(float), [7, 60])


@pytest.mark.parametrize("name", ["bias, lengths per query", "additive", "zero lengths"])
def test_importance_is_what_a_gate_does(name):
    """The output depends linearly on the gate, which is a factor of columns of W_o: one difference is exact."""
    trial = draw(name, CASES[name], "float64")
    size = trial.config.head_dim
    slopes = np.zeros((trial.config.num_heads, len(trial.queries)))
    for head, slope in enumerate(slopes):
        without = trial.parameters["W_o.weight"].copy()
        without[:, head * size : (head + 1) * size] = 0
        closed = replace(trial, parameters=trial.parameters | {"W_o.weight": without})
        change = oracle.forward(trial)["output"].value - oracle.forward(closed)["output"].value
        slope[:] = (change * trial.cotangent).sum((1, 2))
    found = oracle.importance(trial, oracle.forward(trial)).value.astype(float)
    np.testing.assert_allclose(found, np.abs(slopes).mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("name", ["bias, lengths per query", "additive"])
def test_layer_without_heads_is_the_layer_with_their_gates_at_0(name):
    """Outputs, attention weights of the heads that stay, and gradients, where these heads have rows."""
    trial = draw(name, CASES[name], "float64")
    closed = trial.parameters["W_o.weight"].copy()
    closed[:, [0, 1, 2, 3, 8, 9, 10, 11]] = 0
    masked, rest = (replace(trial, parameters=trial.parameters | {"W_o.weight": closed}), trial.without_heads([0, 2]))
    whole, pruned = oracle.forward(masked), oracle.forward(rest)
    close = {"rtol": 1e-14, "atol": 1e-15}
    np.testing.assert_allclose(pruned["output"].value, whole["output"].value, **close)
    np.testing.assert_allclose(pruned["attention_weights"].value, whole["attention_weights"].value[:, 1:2], **close)
    gradients, expected = oracle.backward(rest, pruned), oracle.backward(masked, whole)
    for gradient, found in gradients.items():
        right = expected[gradient].value
        right = right[4:8] if gradient[:3] in ("W_q", "W_k", "W_v") else right
        right = right[:, 4:8] if gradient == "W_o.weight" else right
        np.testing.assert_allclose(found.value, right, rtol=1e-13, atol=1e-13, err_msg=gradient)
