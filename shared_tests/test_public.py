"""Clause groups 1 to 3, of the helpers and the calls: shapes, order of heads, masks, what a call returns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_tests.cases.case import Case, Config, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.rounding import FORMATS, Rounded

NUMBERS = np.arange(2 * 3 * 10, dtype=np.float64).reshape(2, 3, 10)


def test_transpose_qkv_is_batch_major(subject):
    """Entry b * heads + h is columns h*d to (h+1)*d of batch entry b."""
    heads = subject.backend.run(subject.package.transpose_qkv, NUMBERS, 5)
    assert heads.shape == (10, 3, 2)
    for b in range(2):
        for h in range(5):
            np.testing.assert_array_equal(heads[b * 5 + h], NUMBERS[b, :, 2 * h : 2 * h + 2])


@pytest.mark.parametrize("shape", [(2, 3, 10), (0, 3, 10), (2, 0, 10), (1, 1, 5)])
def test_transpose_output_inverts_transpose_qkv(subject, shape):
    x = np.random.default_rng(0).normal(size=shape)
    heads = subject.backend.run(subject.package.transpose_qkv, x, 5)
    back = subject.backend.run(subject.package.transpose_output, heads, 5)
    assert back.shape == shape
    np.testing.assert_array_equal(back, x)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    queries=st.integers(1, 5),
    keys=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4, 1e30]),
    per_query=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_masked_softmax_of_any_shape(subject, batch, queries, keys, scale, per_query, seed):
    random = np.random.default_rng(seed)
    scores = random.normal(scale=scale, size=(batch, queries, keys))
    lengths = random.integers(-1, keys + 2, size=(batch, queries) if per_query else batch)
    weights = subject.backend.run(subject.package.masked_softmax, scores, lengths)
    per_row = np.broadcast_to(lengths if per_query else lengths[:, None], (batch, queries))
    for b, i in np.ndindex(batch, queries):
        length = min(per_row[b, i], keys)
        if length <= 0:
            np.testing.assert_array_equal(weights[b, i], np.full(keys, 1 / keys))
            continue
        truth = Rounded.exact(scores[b, i, :length], FORMATS["float64"].seeded(f"{b}, {i}")).softmax()
        assert compare.within_gate(weights[b, i, :length], truth).holds
        assert not weights[b, i, length:].any()


@settings(max_examples=12, deadline=None)
@given(
    heads=st.integers(1, 4),
    depth=st.integers(1, 7),
    sizes=st.tuples(*[st.integers(1, 9)] * 3),
    lengths=st.tuples(*[st.integers(1, 8)] * 3),
    masked=st.sampled_from(["none", "one", "two"]),
    bias=st.booleans(),
    spread=st.sampled_from([1e-2, 1.0, 10.0]),
    seed=st.integers(0, 1000),
)
def test_layer_of_any_shape(subject, heads, depth, sizes, lengths, masked, bias, spread, seed):
    """Shapes, lengths and scales drawn; outputs, weights and gradients against the oracle."""
    batch, queries, keys = lengths
    random = np.random.default_rng(seed)
    shape = {"none": None, "one": batch, "two": (batch, queries)}[masked]
    valid = None if shape is None else random.integers(-1, keys + 2, size=shape).tolist()
    config = Config(*sizes, num_hiddens=heads * depth, num_heads=heads, bias=bias)
    trial = draw(f"drawn {seed}", Case(config, batch, queries, keys, valid, spread=spread), "float64")
    truth = oracle.forward(trial)
    model = subject.build(config, trial.parameters, "float64")
    output, weights = subject.forward(model, *trial.inputs)
    assert compare.within_gate(output, truth["output"]).holds
    assert compare.within_gate(weights, truth["attention_weights"]).holds
    gradients = subject.gradients(model, *trial.inputs, trial.cotangent)
    for name, expected in oracle.backward(trial, truth).items():
        assert compare.within_gate(gradients[name], expected).holds, name


@pytest.mark.parametrize("name", ["book", "lengths per query", "additive"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_asking_for_weights_changes_no_bit(subject, name, dtype):
    trial = draw(name, CASES[name], dtype)
    layer, _ = subject.build(trial.config, trial.parameters, dtype)
    alone = subject.backend.run(layer, *trial.inputs, dtype=dtype)
    output, weights = subject.backend.run(layer, *trial.inputs, dtype=dtype, need_weights=True)
    np.testing.assert_array_equal(alone, output)
    heads, (batch, queries, _), keys = trial.config.num_heads, trial.queries.shape, trial.keys.shape[1]
    assert output.shape == (batch, queries, trial.config.num_hiddens)
    assert weights.shape == (batch, heads, queries, keys)


def test_scoring_modules_alone(subject):
    """A scoring module returns (batch, queries, width) and weights (batch, queries, keys)."""
    random = np.random.default_rng(0)
    queries, keys, values = (random.normal(size=shape) for shape in ((2, 3, 5), (2, 4, 5), (2, 4, 7)))
    for layer in (
        subject.make("DotProductAttention", 0.0, dtype="float64"),
        subject.make("AdditiveAttention", 5, 5, 11, 0.0, dtype="float64"),
    ):
        output, weights = subject.backend.run(layer, queries, keys, values, np.array([2, 4]), need_weights=True)
        np.testing.assert_allclose(output, weights @ values, rtol=1e-13, atol=1e-13)
        assert output.dtype == weights.dtype == np.float64
        assert not weights[0, :, 2:].any()


def test_books_example(subject):
    """The call of the book: the shape of the output, and of the weights that an eager layer keeps."""
    layer = subject.make("MultiHeadAttention", 100, 100, 100, 100, 5, 0.5)
    queries, keys = np.ones((2, 4, 100), np.float32), np.ones((2, 6, 100), np.float32)
    output = subject.backend.run(layer, queries, keys, keys, np.array([3, 2]), dtype="float32")
    assert output.shape == (2, 4, 100)
    if subject.keeps_weights:
        kept = subject.backend.array(layer.attention.attention_weights)
        assert kept.shape == (10, 4, 6)
        third = np.float32(1) / np.float32(3)
        np.testing.assert_allclose(kept[0, 0], [third, third, third, 0, 0, 0], rtol=1e-6)
    else:
        assert not hasattr(layer.attention, "attention_weights")


@pytest.mark.parametrize("integer", ["int8", "uint8", "int32", "int64"])
def test_lengths_of_any_integer_dtype(subject, integer):
    """More keys than a narrow integer can count to."""
    scores = np.zeros((2, 1, 300))
    weights = subject.backend.run(subject.package.masked_softmax, scores, np.array([3, 100], integer))
    np.testing.assert_array_equal((weights > 0).sum(axis=-1), [[3], [100]])


def test_no_scoring_module_of_another_dtype(subject):
    """A float32 scoring module in a float64 layer is an error at once or when called, never a silent loss."""
    inputs = [np.ones(shape) for shape in ((2, 3, 5), (2, 4, 7), (2, 4, 11))]
    scoring = subject.make("AdditiveAttention", 4, 4, 5, 0.0, dtype="float32")

    def attend():
        layer = subject.make("MultiHeadAttention", 7, 5, 11, 12, 3, 0.0, attention=scoring, dtype="float64")
        return subject.backend.run(layer, *inputs, dtype="float64")

    with pytest.raises((ValueError, RuntimeError), match="dtype"):
        attend()
