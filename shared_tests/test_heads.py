"""Clause group 10: the importance of heads, and layers without some of them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_tests.cases.case import Case, Config, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.known import Finding, excuse, known_differences
from shared_tests.harness.pruning import importance, without_heads
from shared_tests.harness.rounding import GATE
from shared_tests.harness.scoring import DOT_PRODUCT, Additive
from shared_tests.harness.truth import Oracle

WHOLE = {name: case for name, case in CASES.items() if case.config.num_heads > 1 and not case.dropout}
WHOLE["digits"] = replace(WHOLE["digits"], batch=8)  # each entry is a batch of its own
TRIALS = [(name, dtype) for name, case in WHOLE.items() for dtype in case.dtypes]


@cache
def of_heads(name, dtype):
    """The truth, found once for all subjects."""
    return Oracle().of(draw(name, WHOLE[name], dtype), gradients=True, heads=True)


def hold(subject, trial, verdicts):
    """Every verdict holds, with known differences aside."""
    findings = [Finding(clause, subject.name, trial.name, trial.dtype, verdict) for clause, verdict in verdicts]
    assert findings
    failed = [finding for finding in excuse(findings, _known(findings)) if finding.verdict.failed]
    assert not failed


def _known(findings):
    return [entry for entry in known_differences() if any(entry.concerns(f) and f.verdict.failed for f in findings)]


@pytest.mark.parametrize(("name", "dtype"), TRIALS, ids=map(", ".join, TRIALS))
def test_pruned_layer_holds(subject, name, dtype):
    """Every second head is removed: outputs, attention weights, gradients and parameters are those of the others."""
    trial, truth = draw(name, WHOLE[name], dtype), of_heads(name, dtype)
    model = subject.build(trial.config, trial.parameters, dtype)
    hold(subject, trial, without_heads(subject, model, trial, truth.pruned))
    if trial.cotangent.any() and trial.parameters["W_o.weight"].any():
        hold(subject, trial, importance(subject, model, trial, truth.importance))


@settings(max_examples=8, deadline=None)
@given(
    heads=st.integers(2, 5),
    depth=st.integers(1, 7),
    data=st.data(),
    module=st.sampled_from(["", "AdditiveAttention", "FusedDotProductAttention"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_heads_of_any_layer(subject, heads, depth, data, module, bias, seed):
    """Which heads, in which order, and the scoring module drawn; what is left may be pruned again."""
    removed = data.draw(st.lists(st.integers(0, heads - 1), unique=True, max_size=heads - 1))
    scoring = Additive(5) if module == "AdditiveAttention" else DOT_PRODUCT
    config = Config(7, 5, 11, num_hiddens=heads * depth, num_heads=heads, bias=bias, scoring=scoring)
    trial = draw(f"drawn {seed}", Case(config, queries=3, keys=4, valid_lens=(3, 0)), "float64")
    model = subject.build(config, trial.parameters, "float64", "FusedDotProductAttention" if "Fused" in module else "")
    rest = trial.without_heads(removed)
    truth = oracle.forward(rest)
    at_once = subject.prune_heads(model, removed)
    one_by_one = model
    for head in sorted(removed, reverse=True):
        one_by_one = subject.prune_heads(one_by_one, [head])
    outputs = [subject.forward_alone(pruned, *trial.inputs) for pruned in (at_once, one_by_one)]
    assert compare.within_gate(outputs[0], truth["output"]).holds
    np.testing.assert_array_equal(*outputs)
    gradients = subject.gradients(at_once, *trial.inputs, trial.cotangent)
    for name, expected in oracle.backward(rest, truth).items():
        assert compare.within_gate(gradients[name], expected).holds, name


def test_masked_layer_is_the_pruned_one(subject):
    """A gate of 0 is columns of 0 in W_o: the same framework gives both within twice the gate."""
    trial = draw("bias, lengths per query", CASES["bias, lengths per query"], "float32")
    masked = {name: array.copy() for name, array in trial.parameters.items()}
    masked["W_o.weight"][:, 4:8] = 0
    whole, weights = subject.forward(subject.build(trial.config, masked, "float32"), *trial.inputs)
    pruned = subject.prune_heads(subject.build(trial.config, trial.parameters, "float32"), [1])
    output, rest = subject.forward(pruned, *trial.inputs)
    truth = oracle.forward(trial.without_heads([1]))
    assert (np.abs(output - whole) <= 2 * GATE * truth["output"].sigma).all()
    assert (np.abs(rest - weights[:, [0, 2]]) <= 2 * GATE * truth["attention_weights"].sigma).all()


def a_loss(layer, *arrays):
    """Neither linear in the output nor symmetric in its elements, in any framework."""
    output = layer(*arrays)
    return output[0, 0, 0] ** 2 + 3 * output[1, 2, 5] * output[0, 1, 7]


def test_importance_is_the_mean_over_batches_of_what_a_gate_does(subject):
    """Against differences of the loss with the gate of one head at 1 + h and 1 - h, whatever the batches come in."""
    trial, step = draw("bias", CASES["bias"], "float64"), 1e-5
    arrays = [(x, x + 1, -x) for x in trial.inputs[:3]]
    batches = [[subject.backend.tensor(x, "float64") for x in batch] for batch in zip(*arrays, strict=True)]
    layer, _ = subject.build(trial.config, trial.parameters, "float64")
    with subject.backend.numbers("float64"):
        found = subject.package.head_importance(layer, a_loss, iter(batches))
        expected = np.zeros((3, len(batches)))
        for head in range(3):
            for sign in (1, -1):
                gated = {name: array.copy() for name, array in trial.parameters.items()}
                gated["W_o.weight"][:, 4 * head : 4 * head + 4] *= 1 + sign * step
                layer, _ = subject.build(trial.config, gated, "float64")
                losses = [float(subject.backend.array(a_loss(layer, *batch))) for batch in batches]
                expected[head] += sign * np.array(losses) / (2 * step)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.abs(expected).mean(axis=1), rtol=1e-7)
    assert (np.abs(np.abs(expected).mean(axis=1) - np.abs(expected.mean(axis=1))) > 1e-3).any()


def test_importance_of_a_head_that_is_not_projected_is_zero(subject):
    """A gate on columns of 0 moves nothing; the other heads' importance is as before."""
    trial = draw("lengths", CASES["lengths"], "float64")
    parameters = {name: array.copy() for name, array in trial.parameters.items()}
    parameters["W_o.weight"][:, :4] = 0
    batch = [(*trial.inputs, trial.cotangent)]
    whole, without = (
        subject.head_importance(subject.build(trial.config, weights, "float64"), batch)
        for weights in (trial.parameters, parameters)
    )
    assert without[0] == 0
    np.testing.assert_allclose(without[1:], whole[1:], rtol=1e-12)


@pytest.mark.parametrize("name", ["lengths per query", "additive"])
def test_pruned_layer_compiles(subject, name):
    trial = draw(name, CASES[name], "float32")
    layer, _ = subject.prune_heads(subject.build(trial.config, trial.parameters, "float32"), [0, 2])
    compiled = subject.backend.compiled(lambda *x: layer(*x, need_weights=True), *trial.inputs, dtype="float32")
    output, weights = subject.backend.run(compiled, *trial.inputs, dtype="float32")
    truth = oracle.forward(trial.without_heads([0, 2]))
    assert compare.within_gate(output, truth["output"]).holds
    assert compare.within_gate(weights, truth["attention_weights"]).holds


@pytest.mark.parametrize("name", ["bias", "additive"])
def test_pruned_layer_is_exported_saved_and_restored(subject, name, tmp_path):
    trial = draw(name, CASES[name], "float32")
    layer, _ = subject.prune_heads(subject.build(trial.config, trial.parameters, "float32"), [1])
    restored = subject.backend.restored(layer, *trial.inputs, dtype="float32", folder=tmp_path)
    expected = subject.backend.run(layer, *trial.inputs, dtype="float32")
    np.testing.assert_array_equal(subject.backend.run(restored, *trial.inputs, dtype="float32"), expected)


def test_weights_of_a_pruned_layer_are_loaded_into_one_that_was_made_so(subjects):
    """Exported from one framework's pruned layer, into a layer of head_dim= in the next."""
    trial = draw("bias", CASES["bias"], "float32")
    rest = trial.without_heads([1])
    for subject, other in zip(subjects, [*subjects[1:], subjects[0]], strict=True):
        pruned = subject.prune_heads(subject.build(trial.config, trial.parameters, "float32"), [1])
        model = other.build(rest.config, subject.export_weights(pruned), "float32")
        output, _ = other.forward(model, *trial.inputs)
        assert compare.within_gate(output, oracle.forward(rest)["output"]).holds


def test_pruning_keeps_what_the_layer_has(subject):
    """Dropout, dtype and sizes; nothing removed is a copy of its own."""
    layer = subject.make("MultiHeadAttention", 7, 5, 11, 12, 3, 0.5, bias=True, dtype="float64")
    before = subject.package.export_weights(layer)
    pruned = subject.package.prune_heads(layer, [])
    assert (pruned.num_heads, pruned.head_dim, pruned.num_hiddens) == (3, 4, 12)
    assert (pruned.query_size, pruned.key_size, pruned.value_size) == (5, 7, 11)
    rate = "p" if hasattr(pruned.attention.dropout, "p") else "rate"
    assert getattr(pruned.attention.dropout, rate) == 0.5
    assert all((subject.package.export_weights(pruned)[name] == array).all() for name, array in before.items())
    subject.package.load_weights(pruned, {name: array + 1 for name, array in before.items()})
    assert all((subject.package.export_weights(layer)[name] == array).all() for name, array in before.items())
