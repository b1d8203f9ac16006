"""`tf_impl` over several devices: the clauses that `tf_sharded` is asked, and what is TensorFlow's own.

Functions that take `subject` run in its process (`Spread.run`).
"""

import warnings

import numpy as np
import pytest

from shared_tests.cases.case import Config, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge, of_training
from shared_tests.harness.known import excuse
from shared_tests.harness.truth import Oracle
from shared_tests.subjects._tf import keras, tf
from shared_tests.subjects.tf_impl import TfImpl

import tf_impl  # isort: skip

ASKED = ("eight heads", "eight heads, additive", "lengths per query", "zero lengths", "no queries")
SIZES = (8, 8, 8, 8, 4)
DEVICES = [f"CPU:{i}" for i in range(4)]


@pytest.fixture(scope="module")
def sharded():
    return find("tf_sharded")


def test_clauses_hold(sharded):
    report = judge(sharded, cases={name: CASES[name] for name in ASKED})
    assert not [finding for finding in excuse(report.findings) if finding.verdict.failed]
    assert all(report.cells[clause, "tf_sharded"] for clause in ("1.4", "2.1", "2.2", "3.5", "4.1", "4.2", "5.1"))


def test_training_holds(sharded):
    findings = list(of_training([sharded], Oracle(), "adam", "float64"))
    assert len(findings) > 100
    assert not [finding.verdict for finding in findings if finding.verdict.failed]


def fused(subject, trial):
    model = subject.fused(trial.config, trial.parameters, trial.dtype)
    return subject.forward_alone(model, *trial.inputs), subject.gradients(model, *trial.inputs, trial.cotangent)


def test_fused_holds(sharded):
    trial = draw("eight heads", CASES["eight heads"], "float64")
    stages = oracle.forward(trial)
    ((output, gradients),) = sharded.run(__file__, "fused", trial)
    assert compare.within_gate(output, stages["output"]).holds
    for name, expected in oracle.backward(trial, stages).items():
        assert compare.within_gate(gradients[name], expected).holds, name


def of_one_device(subject, trial):
    """The gradients of the layer that has the first device's heads: what a device finds that shares none."""
    model = TfImpl().build(trial.config, trial.parameters, trial.dtype)
    pruned = subject.prune_heads(model, range(2, 8))
    return subject.gradients(pruned, *trial.inputs, trial.cotangent)


def test_gradients_that_are_not_shared_are_seen(sharded):
    trial = draw("eight heads, additive", CASES["eight heads, additive"], "float64")
    (gradients,) = sharded.run(__file__, "of_one_device", trial)
    for name, expected in oracle.backward(trial, oracle.forward(trial)).items():
        if name.startswith("attention"):
            assert not compare.within_gate(gradients[name], expected).holds, name


def places(subject):
    """Where parameters are, and in the graph of a call the products and the sum."""
    layer, _ = subject.build(Config(*SIZES), {f"W_{x}.weight": np.eye(8) for x in "qkvo"}, "float32")
    parameters = [[variable.value.device for variable in spread.variables] for spread in layer.spread.values()]
    graph = tf.function(lambda x: layer(x, x, x)).get_concrete_function(tf.TensorSpec((2, 3, 8))).graph
    products = [op.device for op in graph.get_operations() if op.type in ("BatchMatMulV2", "BatchMatMulV3")]
    sums = [op.device for op in graph.get_operations() if op.type == "AddN"]
    return [[device.split("device:")[-1].upper() for device in found] for found in (*parameters, products, sums)]


def test_each_device_has_its_heads(sharded):
    """Two products of attention on each device, and one sum, on the first: nothing else is between the devices."""
    ((*parameters, products, sums),) = sharded.run(__file__, "places")
    assert parameters == [DEVICES] * 4
    assert sorted(products) == sorted(DEVICES * 2)
    assert sums == DEVICES[:1]


def dropped(subject, config, weights, x):
    layer, _ = subject.build(config, weights, "float32", "", 0.5)
    x = tf.constant(x, tf.float32)
    return [layer(x, x, x, training=True).numpy() for _ in range(2)]


def test_heads_of_two_devices_do_not_drop_alike(sharded):
    """Four heads of the same parameters, and W_o the identity: each drops otherwise."""
    random = np.random.default_rng(0)
    weights = {f"W_{x}.weight": np.tile(random.normal(size=(2, 8)), (4, 1)) for x in "qkv"} | {"W_o.weight": np.eye(8)}
    ((first, second),) = sharded.run(__file__, "dropped", Config(*SIZES), weights, random.normal(size=(2, 5, 8)))
    heads = first.reshape(2, 5, 4, 2)
    assert all((heads[:, :, i] != heads[:, :, j]).any() for i in range(4) for j in range(i))
    assert (first != second).any()


def masked(subject):
    """Whether a Keras mask hides the same keys from the whole layer and from the sharded one; and in a model."""
    layer = tf_impl.MultiHeadAttention(*SIZES, 0.0, True)
    sharded = tf_impl.shard(layer, subject.mesh)
    assert sharded.count_params() == layer.count_params()  # no device has a bias of W_o by itself
    x = keras.layers.Embedding(9, 8, mask_zero=True)(tf.constant([[1, 2, 0, 0]]))
    given = keras.Input((4, 8))
    model = keras.Model(given, sharded(given, given, given))
    plain = tf.constant(x.numpy())
    outputs = layer(x, x, x), sharded(x, x, x), layer(plain, plain, plain), model(plain)
    return [output.numpy() for output in outputs]


def test_keras_masks_and_models(sharded):
    ((whole, spread, plain, modelled),) = sharded.run(__file__, "masked")
    np.testing.assert_allclose(spread, whole, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(modelled, plain, rtol=1e-5, atol=1e-7)
    assert abs(whole - plain).max() > 1e-3


def fitted(subject):
    """Losses of a model with the whole layer and with the sharded one, told to use XLA; warnings; XLA's own error."""
    layer, x = tf_impl.MultiHeadAttention(*SIZES, 0.0, True), np.random.default_rng(0).normal(size=(4, 3, 8))
    losses, warned = [], []
    for each in (layer, tf_impl.shard(layer, subject.mesh)):  # which has parameters of its own
        given = keras.Input((3, 8))
        model = keras.Model(given, each(given, given, given))
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model.compile("sgd", "mse", jit_compile=True)
        losses.append(model.fit(x, -x, epochs=3, verbose=0).history["loss"])
        warned.append([str(warning.message) for warning in found])
    try:
        tf.function(lambda x: each(x, x, x), jit_compile=True)(tf.constant(x, tf.float32))
    except tf.errors.InvalidArgumentError as error:
        return losses, warned, str(error)


def test_a_model_is_fitted_without_xla(sharded):
    """XLA takes no variables of several devices. Keras leaves it, with a warning if it was asked for by name."""
    (((whole, spread), (of_whole, of_spread), error),) = sharded.run(__file__, "fitted")
    assert "Trying to access resource" in error
    np.testing.assert_allclose(spread, whole, rtol=1e-5)
    assert of_whole == []
    assert of_spread == ["Model doesn't support `jit_compile=True`. Proceeding with `jit_compile=False`."]


def exported(subject):
    """The names of the whole layer's parameters and of the sharded one's, in order."""
    layer = tf_impl.MultiHeadAttention(*SIZES, 0.0, True, attention=tf_impl.AdditiveAttention(2, 2, 3, 0.0))
    return [list(tf_impl.export_weights(each)) for each in (layer, tf_impl.shard(layer, subject.mesh))]


def test_parameters_come_in_the_same_order(sharded):
    ((whole, spread),) = sharded.run(__file__, "exported")
    assert spread == whole


def refused(subject):
    layer = tf_impl.MultiHeadAttention(*SIZES, 0.0)
    before = tf_impl.export_weights(layer)
    sharded, x = tf_impl.shard(layer, subject.mesh), tf.ones((1, 2, 8))
    tf_impl.load_weights(sharded, {name: array + 1 for name, array in before.items()})
    assert all((tf_impl.export_weights(layer)[name] == array).all() for name, array in before.items())
    assert sharded.num_heads == 4
    calls = (
        lambda: tf_impl.shard(sharded, subject.mesh),
        lambda: tf_impl.prune_heads(sharded, [0]),
        lambda: tf_impl.head_importance(sharded, lambda layer, x: tf.reduce_sum(layer(x, x, x)), [(x,)]),
        lambda: sharded(x, x, x, 2),
        lambda: sharded(x, x, x, [2]),
        lambda: tf_impl.load_weights(sharded, before | {"W_q.bias": np.ones(8)}),
        sharded.get_config,
    )
    return [_words(call) for call in calls]


def _words(call):
    try:
        return call()
    except (TypeError, ValueError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"


SHARDED_ALREADY = "TypeError: layer: expected a MultiHeadAttention that is not sharded, got ShardedMultiHeadAttention"


def test_what_a_sharded_layer_refuses(sharded):
    """And the layer that was given stays as it was."""
    assert sharded.run(__file__, "refused") == [
        [
            *[SHARDED_ALREADY] * 3,
            "TypeError: valid_lens: expected an array, got int",
            "TypeError: valid_lens: expected an array, got list",
            "ValueError: weights: W_q.bias: unexpected",
            "NotImplementedError: get_config: expected a layer that is not sharded; export_weights gives the weights",
        ]
    ]
