"""FusedDotProductAttention is DotProductAttention: outputs and gradients on every case, and with dropout."""

from dataclasses import replace

import numpy as np
import pytest

from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.known import Finding, known_differences
from shared_tests.harness.rounding import GATE

PLAIN = {name: case for name, case in CASES.items() if not case.config.scoring.claim and not case.dropout}
TRIALS = [(name, dtype) for name, case in PLAIN.items() for dtype in case.dtypes]
IN_BLOCKS = ["lengths", "lengths per query", "zero lengths", "zero and negative lengths per query", "no lengths"]
DROPOUT = [name for name, case in CASES.items() if case.dropout and not case.config.scoring.claim]
BLOCKS = [2**20, 64, 10]
"""Scores at a time: all, whole entries, one query (of the 5 * 7 scores of an entry)."""


KERNEL = ("torch_impl", "common mean")
"""PyTorch's kernel computes attention weights again from a rounded logarithm of their sum: 20 sigma for far scores."""


def off(subject, trial, name, actual, truth):
    """By how many times the gate, with known differences aside."""
    verdict = replace(compare.within_gate(np.asarray(actual), truth), what=name)
    finding = Finding("4.2", subject.name, trial.name, trial.dtype, verdict)
    known = verdict.compared and any(entry.concerns(finding) for entry in known_differences())
    return verdict.failed and not known and (verdict.worst or np.inf) / GATE


def hold(subject, model, trial, run=None):
    """Output and gradients are within the gate; the layer may be called by another function that does as much."""
    layer, dtype = model
    truth = oracle.forward(trial)
    subject.reseed(layer)
    output = subject.backend.run(run or layer, *trial.inputs, dtype=dtype)
    assert compare.shape_and_dtype(output, truth["output"].value.shape, dtype).holds
    assert not off(subject, trial, "output", output, truth["output"])
    subject.reseed(layer)
    gradients = subject.gradients(model, *trial.inputs, trial.cotangent)
    expected = oracle.backward(trial, truth)
    worst = max(off(subject, trial, name, gradients[name], gradient) for name, gradient in expected.items())
    assert 1 < worst < 3 if (subject.name, trial.name) == KERNEL and dtype in ("float64", "float32") else not worst


@pytest.mark.parametrize(("name", "dtype"), TRIALS, ids=map(", ".join, TRIALS))
def test_case_holds(subject, name, dtype):
    trial = draw(name, CASES[name], dtype)
    hold(subject, subject.fused(trial.config, trial.parameters, dtype), trial)


@pytest.mark.parametrize("block", BLOCKS[1:])
@pytest.mark.parametrize("name", IN_BLOCKS)
def test_blocks_hold(subject, name, block):
    trial = draw(name, CASES[name], "float64")
    layer, dtype = subject.fused(trial.config, trial.parameters, "float64")
    layer.attention.block = block
    hold(subject, (layer, dtype), trial)


@pytest.mark.parametrize("block", BLOCKS)
def test_padding_changes_no_bit_and_gets_no_gradient(subject, block):
    trial = draw("lengths", CASES["lengths"], "float64")
    layer, dtype = subject.fused(trial.config, trial.parameters, "float64")
    layer.attention.block = block
    padding = np.arange(trial.keys.shape[1]) >= trial.valid_lens[:, None]
    garbled = replace(trial, keys=trial.keys.copy(), values=trial.values.copy())
    garbled.keys[padding], garbled.values[padding] = 50.0, -50.0
    outputs = [subject.backend.run(layer, *each.inputs, dtype=dtype) for each in (trial, garbled)]
    np.testing.assert_array_equal(*outputs)
    gradients = subject.gradients((layer, dtype), *trial.inputs, trial.cotangent)
    for x in ("keys", "values"):
        assert not gradients[x][padding].any()
        assert gradients[x][~padding].any()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", DROPOUT)
def test_dropout_holds(subject, name, block):
    """With values = identity the output shows the mask; from the same seed, it must be that of output and gradients."""
    trial, p = draw(name, CASES[name], "float64"), CASES[name].dropout
    layer, dtype = subject.fused(trial.config, trial.parameters, "float64", p)
    layer.attention.block = block
    heads, split = trial.config.num_heads, subject.package.transpose_qkv
    attend, run = subject.training(layer.attention), subject.training(layer)
    batch, keys = len(trial.keep), trial.keep.shape[-1]
    identity = np.broadcast_to(np.eye(keys), (batch * heads, keys, keys)).copy()

    def reveal(x, y, identity, valid_lens):
        return attend(split(layer.W_q(x), heads), split(layer.W_k(y), heads), identity, valid_lens)

    lens = np.repeat(trial.valid_lens, heads, axis=0)
    subject.reseed(layer)
    shown = subject.backend.run(reveal, trial.queries, trial.keys, identity, lens, dtype=dtype)
    keep = (shown != 0).reshape(trial.keep.shape) / (1 - p)
    valid = np.broadcast_to(np.arange(keys) < trial.lengths[:, None, :, None], keep.shape)
    assert abs((keep[valid] != 0).mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / valid.sum())
    hold(subject, (layer, dtype), replace(trial, keep=keep), run)


@pytest.mark.parametrize("name", ["lengths", "lengths per query"])
@pytest.mark.parametrize("block", BLOCKS)
def test_compiled_holds(subject, name, block):
    trial = draw(name, CASES[name], "float32")
    layer, _ = subject.fused(trial.config, trial.parameters, "float32")
    layer.attention.block = block
    compiled = subject.backend.compiled(lambda *x: layer(*x), *trial.inputs, dtype="float32")
    for inputs in (trial.inputs, [x[:1, 1:] if x.ndim > 1 else x[:1] for x in trial.inputs]):
        output = subject.backend.run(compiled, *inputs, dtype="float32")
        lens = np.broadcast_to(inputs[3].reshape(len(inputs[3]), -1), inputs[0].shape[:2])
        queries, keys, values, _ = inputs
        part = replace(trial, queries=queries, keys=keys, values=values, valid_lens=lens)
        assert compare.within_gate(output, oracle.forward(part)["output"]).holds


def test_restored_holds(subject, tmp_path):
    trial = draw("lengths", CASES["lengths"], "float32")
    layer, _ = subject.fused(trial.config, trial.parameters, "float32")
    restored = subject.backend.restored(layer, *trial.inputs, dtype="float32", folder=tmp_path)
    for inputs in (trial.inputs, [x[:1] for x in trial.inputs]):
        expected = subject.backend.run(layer, *inputs, dtype="float32")
        np.testing.assert_array_equal(subject.backend.run(restored, *inputs, dtype="float32"), expected)
