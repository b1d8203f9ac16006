"""Clause 7.3: compiled, exported, saved and taken apart, a layer gives what it gives eagerly."""

import numpy as np
import pytest

from shared_tests.cases.case import draw
from shared_tests.cases.refusals import REFUSALS, arguments
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle


@pytest.mark.parametrize("name", ["lengths per query", "additive"])
def test_compiled_layer_holds(subject, name):
    """Output and weights come out of one graph, for the shapes it was made for and for others."""
    trial = draw(name, CASES[name], "float32")
    layer, _ = subject.build(trial.config, trial.parameters, "float32")

    def attend(*tensors):
        return layer(*tensors, need_weights=True)

    with subject.backend.numbers("float32"):
        compiled = subject.backend.compiled(attend, *trial.inputs, dtype="float32")
    fewer = [x[:1, 1:] if x.ndim > 1 else x[:1] for x in trial.inputs]
    truth = oracle.forward(trial)
    output, weights = subject.backend.run(compiled, *trial.inputs, dtype="float32")
    assert compare.within_gate(output, truth["output"]).holds
    assert compare.within_gate(weights, truth["attention_weights"]).holds
    output, weights = subject.backend.run(compiled, *fewer, dtype="float32")
    eager, eager_weights = subject.backend.run(layer, *fewer, dtype="float32", need_weights=True)
    np.testing.assert_allclose(output, eager, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, eager_weights, rtol=1e-4, atol=1e-5)


def test_compiled_layer_leaks_no_tracer(subject):
    trial = draw("lengths", CASES["lengths"], "float32")
    layer, _ = subject.build(trial.config, trial.parameters, "float32")
    compiled = subject.backend.compiled(lambda *tensors: layer(*tensors), *trial.inputs, dtype="float32")
    subject.backend.run(compiled, *trial.inputs, dtype="float32")
    assert getattr(layer.attention, "attention_weights", None) is None
    if subject.keeps_weights:
        subject.backend.run(layer, *trial.inputs, dtype="float32")
        kept = layer.attention.attention_weights
        assert subject.backend.array(kept).shape == (6, 5, 7)
        assert not getattr(kept, "requires_grad", False)


@pytest.mark.parametrize("name", ["lengths", "additive"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_restored_layer_gives_the_same_bits(subject, name, dtype, tmp_path):
    trial = draw(name, CASES[name], dtype)
    layer, _ = subject.build(trial.config, trial.parameters, dtype)
    restored = subject.backend.restored(layer, *trial.inputs, dtype=dtype, folder=tmp_path)
    for inputs in (trial.inputs, [x[:1] for x in trial.inputs]):
        expected = subject.backend.run(layer, *inputs, dtype=dtype)
        np.testing.assert_array_equal(subject.backend.run(restored, *inputs, dtype=dtype), expected)


@pytest.mark.parametrize("row", [row for row in REFUSALS if row.call == "attend"], ids=lambda row: row.number)
def test_compiled_layer_refuses_in_the_same_words(subject, row):
    """Where shapes decide, tracing raises the error; a compiler may quote it in a longer message."""
    layer = subject.callable(row.call)
    arrays = list(arguments(row.call, row.changes).values())
    attend = subject.backend.compiled_by_default(lambda *tensors: layer(*tensors))
    with pytest.raises(row.error) as caught:
        subject.backend.run(attend, *arrays, dtype="float32")
    assert row.words in str(caught.value)
