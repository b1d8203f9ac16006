"""Layouts of the three frameworks: their own layers answer as ours, and wrong readings of square matrices do not."""

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.cases.case import Config
from shared_tests.layouts.table import LAYOUTS
from shared_tests.studies.converted import check, draw_inputs, judge_output, layer_of, trial_of

CROSS = Config(7, 5, 11, 9, 3, bias=True, head_dim=4)
KEYS_ARE_VALUES = Config(7, 5, 7, 9, 3, bias=True, head_dim=4)
SQUARE = Config(12, 12, 12, 12, 3, bias=True)
LAYERS = {
    "torch": SQUARE,
    "torch kdim vdim": Config(7, 12, 11, 12, 3, bias=True),
    "torch without biases": Config(7, 12, 11, 12, 3),
    "torch-encoder-layer": SQUARE,
    "nanogpt": SQUARE,
    "book": CROSS,
    "nnx": KEYS_ARE_VALUES,
    "nnx without biases": Config(7, 5, 7, 9, 3, head_dim=4),
    "linen": KEYS_ARE_VALUES,
    "linen square": SQUARE,
    "book-jax": CROSS,
    "keras": CROSS,
    "keras without biases": Config(7, 5, 11, 9, 3, head_dim=4),
    "keras square": SQUARE,
    "book-tf": CROSS,
}


def made(name, **options):
    """(the layout, how its layer is run, such a layer, its state); skips where the framework is not installed."""
    layout = LAYOUTS[name.split()[0]]
    try:
        others = layer_of(layout)
    except ImportError as error:
        pytest.skip(str(error))
    vars(others).update(options)
    layer = others.build(LAYERS[name])
    return layout, others, layer, others.state(layer)


def answer(name, change=lambda state: state, **options):
    """The layer's output beside the oracle's, for the weights that the layout reads in its changed state."""
    layout, others, layer, state = made(name, **options)
    inputs = draw_inputs(LAYERS[name], others)
    weights = layouts.from_(layout.name, change(state))
    trial = trial_of(weights, LAYERS[name], inputs, others.causal, others.scaled)
    return judge_output(others.forward(layer, *inputs), trial)


@pytest.mark.parametrize("name", LAYERS)
def test_a_real_layer_answers_as_ours(name):
    """Its state, as it is, through the layout; and back into another of its kind."""
    verdict = answer(name)
    assert verdict.holds, verdict.note
    layout, _, _, state = made(name)
    weights = layouts.from_(layout.name, state)
    arrays = layouts.to(layout.name, weights, num_heads=LAYERS[name].num_heads)
    own = {part for part in state if part.partition(".")[0] not in layout.beside}
    assert arrays.keys() == own
    assert all(array.tobytes() == np.ascontiguousarray(state[part]).tobytes() for part, array in arrays.items())
    assert check(layout, arrays, weights, LAYERS[name].num_heads).holds


def test_heads_that_share_keys():
    *_, state = made("nnx", groups=1)
    assert state["key/kernel"].shape == (7, 1, 4)
    verdict = answer("nnx", groups=1)
    assert verdict.holds, verdict.note


@pytest.mark.parametrize("name", ["linen square", "keras square"])
def test_a_wrong_orientation_is_seen(name):
    """In the square layer a transposed kernel has the right shape once its heads are joined."""

    def turned(state):
        kernel = state["query/kernel"].reshape(12, 12).T.reshape(12, 3, 4)
        return state | {"query/kernel": np.ascontiguousarray(kernel)}

    assert not answer(name, turned).holds


@pytest.mark.parametrize("name", ["linen square", "keras square"])
def test_heads_in_another_order_are_seen(name):
    def swapped(state):
        return state | {"query/kernel": np.ascontiguousarray(state["query/kernel"][:, ::-1])}

    assert not answer(name, swapped).holds


@pytest.mark.parametrize("part", ["in_proj_weight", "in_proj_bias", "out_proj.weight"])
def test_a_wrong_third_or_orientation_is_seen(part):
    def wrong(state):
        array = state[part]
        return state | {part: np.roll(array, 12, axis=0) if part.startswith("in") else np.ascontiguousarray(array.T)}

    assert not answer("torch", wrong).holds
