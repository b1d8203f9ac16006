"""Layouts of other libraries: where these are installed, the layers of today take what was recorded and answer so."""

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.cases.case import GOLDENS, Config
from shared_tests.goldens.record_layers import RECORDED
from shared_tests.layouts.table import LAYOUTS
from shared_tests.studies.converted import check, draw_inputs, judge_output, layer_of, trial_of
from shared_tests.tensors import decode


def installed(name):
    try:
        return layer_of(LAYOUTS[name])
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_layer_is_taken_by_the_real_one(name):
    """What the layout writes, too, loads and answers as ours: grouped heads, once they are repeated."""
    layout = LAYOUTS[RECORDED[name][0]]
    installed(layout.name)
    arrays, facts = decode((GOLDENS / "layers" / f"{name.replace(' ', '_')}.safetensors").read_bytes())
    layer = {part.removeprefix("layer/"): array for part, array in arrays.items() if part.startswith("layer/")}
    num_heads = int(facts["num_heads"])
    weights = layouts.from_(layout.name, layer, num_heads=num_heads)
    verdict = check(layout, layouts.to(layout.name, weights, num_heads=num_heads), weights, num_heads)
    assert verdict.holds, verdict.note


ORT = {
    "wide": Config(8, 8, 8, 8, 3, bias=True, head_dim=4),
    "square": Config(12, 12, 12, 12, 3, bias=True),
    "no biases": Config(8, 8, 8, 8, 3, head_dim=4),
}


def answer_of_onnx_runtime(config, change=lambda state: state):
    """Its operator, which stops before W_o, beside the oracle's concatenation."""
    others = installed("ort")
    layer = others.build(config)
    weights = layouts.from_("ort", change(others.state(layer)))
    inputs = draw_inputs(config, others)
    return judge_output(others.forward(layer, *inputs), trial_of(weights, config, inputs, False, True), "concatenation")


@pytest.mark.parametrize("name", ORT)
def test_the_operator_of_onnx_runtime_answers_as_ours(name):
    verdict = answer_of_onnx_runtime(ORT[name])
    assert verdict.holds, verdict.note


def test_a_wrong_third_of_onnx_runtime_is_seen():
    def rolled(state):
        return {name: np.roll(x, 12, axis=-1) for name, x in state.items()}

    assert not answer_of_onnx_runtime(ORT["square"], rolled).holds
