"""Layouts of flax: its own layers answer as ours."""

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.cases.case import Config
from shared_tests.layouts.table import LAYOUTS
from shared_tests.studies.converted import check, draw_inputs, judge_output, layer_of, trial_of

LAYERS = {
    "nnx": Config(7, 5, 7, 9, 3, bias=True, head_dim=4),
    "nnx without biases": Config(7, 5, 7, 9, 3, head_dim=4),
    "linen": Config(7, 5, 7, 9, 3, bias=True, head_dim=4),
    "linen square": Config(12, 12, 12, 12, 3, bias=True),
    "book-jax": Config(7, 5, 11, 9, 3, bias=True, head_dim=4),
}


def answer(name, change=lambda state: state):
    layout, config = LAYOUTS[name.split()[0]], LAYERS[name]
    others = layer_of(layout)
    layer = others.build(config)
    inputs = draw_inputs(config, others)
    weights = layouts.from_(layout.name, change(others.state(layer)))
    return judge_output(others.forward(layer, *inputs), trial_of(weights, config, inputs, False, True))


@pytest.mark.parametrize("name", LAYERS)
def test_a_real_layer_answers_as_ours(name):
    verdict = answer(name)
    assert verdict.holds, verdict.note
    layout, config = LAYOUTS[name.split()[0]], LAYERS[name]
    others = layer_of(layout)
    state = others.state(others.build(config))
    weights = layouts.from_(layout.name, state)
    arrays = layouts.to(layout.name, weights, num_heads=config.num_heads)
    assert arrays.keys() == state.keys()
    assert all(array.tobytes() == np.ascontiguousarray(state[part]).tobytes() for part, array in arrays.items())
    assert check(layout, arrays, weights, config.num_heads).holds


def test_heads_that_share_keys():
    config, others = LAYERS["nnx"], layer_of(LAYOUTS["nnx"])
    others.groups = 1
    layer = others.build(config)
    inputs = draw_inputs(config, others)
    state = others.state(layer)
    assert state["key/kernel"].shape == (7, 1, 4)
    weights = layouts.from_("nnx", state)
    verdict = judge_output(others.forward(layer, *inputs), trial_of(weights, config, inputs, False, True))
    assert verdict.holds, verdict.note


def test_a_wrong_orientation_is_seen():
    """In the square layer a transposed kernel has the right shape once its heads are joined."""

    def turned(state):
        kernel = state["query/kernel"].reshape(12, 12).T.reshape(12, 3, 4)
        return state | {"query/kernel": np.ascontiguousarray(kernel)}

    assert not answer("linen square", turned).holds


def test_heads_in_another_order_are_seen():
    def swapped(state):
        return state | {"query/kernel": np.ascontiguousarray(state["query/kernel"][:, ::-1])}

    assert not answer("linen square", swapped).holds
