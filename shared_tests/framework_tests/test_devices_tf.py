"""docs/devices.md in TensorFlow: what is shown holds and sends what the page says; and what does not work does not.

Functions that take `subject` run in the process of several devices (`Spread.run`).
"""

import numpy as np
import pytest

from shared_tests.harness.find import find
from shared_tests.subjects._tf import keras, tf
from shared_tests.subjects.tf_impl import TfImpl

import tf_impl  # isort: skip

WAYS = {"The batch": 0, "The heads": None, "The length": 1}
"""Heading -> the axis that it cuts; None: what is whole."""
INPUTS = "queries", "keys", "values"


@pytest.fixture(scope="module")
def devices():
    return find("tf_sharded")


class Counting(tf.distribute.ReductionToOneDevice):
    """How arrays are added up over the devices, or gathered, on CPUs: counted."""

    def __init__(self):
        super().__init__()
        self.counts = {"all-reduce": 0, "all-gather": 0}

    def batch_reduce_implementation(self, *arguments, **options):
        self.counts["all-reduce"] += 1
        return super().batch_reduce_implementation(*arguments, **options)

    def _gather_implementation(self, *arguments, **options):
        self.counts["all-gather"] += 1
        return super()._gather_implementation(*arguments, **options)


def stepped(subject, code, trial):
    """What each device has of a block: its output, gradients, and what is sent forward, and in all."""
    tensor, counter, sent, graphs = subject.backend.tensor, Counting(), [], []
    layer, dtype = TfImpl().build(trial.config, trial.parameters, trial.dtype)

    def loss(output, target):
        sent.append(_sent(counter, output.graph))
        graphs.append(output.graph)
        return tf.reduce_mean(tf.reduce_sum(output * target, axis=-1))

    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(4)], cross_device_ops=counter)
    names = {"layer": layer, "strategy": strategy, "loss": loss, "target": tensor(trial.cotangent, dtype)}
    names["inputs"] = tuple(tensor(getattr(trial, x), dtype) for x in INPUTS)
    names["valid_lens"] = tensor(trial.valid_lens, dtype)
    exec(code, names)

    def parts(value):
        return [subject.backend.array(part) for part in strategy.experimental_local_results(value)]

    trained = names.get("sharded", names["copies"])
    for variable, gradient in zip(trained.trainable_variables, names["gradients"], strict=True):
        variable.assign(parts(gradient)[0])  # to have them by their canonical names
    return (
        parts(names["output"]),
        [parts(x) for x in names["of_inputs"]],
        tf_impl.export_weights(trained),
        (sent[0], _sent(counter, graphs[0])),
    )


def _sent(counter, graph):
    """What a strategy sends; without one, the sums of a term for each device."""
    sums = [op for op in graph.get_operations() if op.type == "AddN" and len(op.inputs) == 4]
    return dict(counter.counts) if any(counter.counts.values()) else {"sum": len(sums)}


@pytest.mark.parametrize("way", WAYS)
def test_a_block_holds_and_sends_what_the_page_says(devices, blocks, trial, holds, sends, way):
    (setup,), (code,) = blocks("tf", "What the blocks are given"), blocks("tf", way)
    ((outputs, of_inputs, gradients, sent),) = devices.run(__file__, "stepped", setup + code, trial)
    axis = WAYS[way]
    output = outputs[0] if axis is None else np.concatenate(outputs, axis)
    # An input's gradient is of the device's own loss, of which the loss of all is the mean.
    of_inputs = [parts[0] if axis is None else np.concatenate(parts, axis) / len(parts) for parts in of_inputs]
    holds(trial, output, gradients | dict(zip(INPUTS, of_inputs, strict=True)))
    sends(f"{way}, TensorFlow", *sent)


def test_every_block_is_run(blocks):
    headings = *WAYS, "What the blocks are given", "More than one host"
    assert sorted(block for heading in headings for block in blocks("tf", heading)) == sorted(blocks("tf"))


def test_it_reaches_two_hosts(on_two_hosts, blocks):
    printed = on_two_hosts("tf", CUDA_VISIBLE_DEVICES="-1")
    assert "".join(printed) == blocks("tf", "More than one host", "text")[0]


# What does not work


def within_a_strategy(subject):
    """How far a layer that is sharded in the scope of a strategy is off, and on which devices its parameters are."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:2"])
    layer, x = tf_impl.MultiHeadAttention(8, 8, 8, 8, 4, 0.0), tf.sin(tf.reshape(tf.range(96.0), (4, 3, 8)))
    with strategy.scope():
        sharded = tf_impl.shard(layer, keras.distribution.DeviceMesh((2,), ["heads"], ["cpu:0", "cpu:1"]))
    parts = tf.split(x, 2)
    given = strategy.experimental_distribute_values_from_function(lambda place: parts[place.replica_id_in_sync_group])
    outputs = tf.function(lambda x: strategy.run(lambda x: sharded(x, x, x), (x,)))(given)
    apart = tf.reduce_max(abs(tf.concat(strategy.experimental_local_results(outputs), 0) - layer(x, x, x)))
    variables = [strategy.experimental_local_results(variable.value) for variable in sharded.variables]
    return float(apart), [[copy.device.split(":")[-1] for copy in copies] for copies in variables]


def test_a_layer_sharded_within_a_strategy_is_whole_on_each_of_its_devices(devices):
    ((apart, places),) = devices.run(__file__, "within_a_strategy")
    assert apart < 1e-6
    assert places == [["0", "2"]] * 8  # of four projections, for each of two devices' heads


def under_keras_distribution(subject, kind):
    """Where parameters and an output are; and what `distribute_tensor` says."""
    names = [f"cpu:{i}" for i in range(4)]
    mesh = keras.distribution.DeviceMesh((4,), ["model"], names)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*W_[qkv].kernel"], layout[".*W_o.kernel"] = (None, "model"), ("model", None)
    data, model = keras.distribution.DataParallel, keras.distribution.ModelParallel
    keras.distribution.set_distribution(data(devices=names) if kind == "data" else model(layout_map=layout))
    try:
        layer, x = tf_impl.MultiHeadAttention(8, 8, 8, 8, 4, 0.0), tf.ones((4, 3, 8))
        found = [*(weight.value for weight in layer.weights), layer(x, x, x)]
        place = keras.distribution.TensorLayout(("model", None, None), mesh)
        with pytest.raises(AttributeError) as refused:
            keras.distribution.distribute_tensor(x, place)
    finally:
        keras.distribution.set_distribution(None)
    return [(tuple(x.shape), x.device.split(":")[-2:]) for x in found], f"AttributeError: {refused.value}"


@pytest.mark.parametrize("kind", ["data", "model"])
def test_keras_distribution_distributes_nothing(devices, page, kind):
    ((found, error),) = devices.run(__file__, "under_keras_distribution", kind)
    assert found == [((8, 8), ["CPU", "0"])] * 4 + [((4, 3, 8), ["CPU", "0"])]
    assert error in page
