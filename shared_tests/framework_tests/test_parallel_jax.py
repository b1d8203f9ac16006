"""`jax_impl` over several devices: the clauses that `jax_sharded` is asked, and what is JAX's own.

Functions that take `subject` run in its process (`Spread.run`).
"""

import re
from dataclasses import replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jax_impl
from shared_tests.cases.case import Config, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge, of_training
from shared_tests.harness.known import excuse
from shared_tests.harness.truth import Oracle
from shared_tests.storage import programs_folder
from shared_tests.subjects.jax_impl import JaxImpl

ASKED = {
    "eight heads": CASES["eight heads"],
    "eight heads, additive": CASES["eight heads, additive"],
    "lengths per query": CASES["lengths per query"],
    "no queries": CASES["no queries"],
}
SIZES = (8, 8, 8, 8, 4)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@pytest.fixture(scope="module")
def sharded():
    return find("jax_sharded", programs=programs_folder())


def test_clauses_hold(sharded):
    report = judge(sharded, cases=ASKED)
    assert not [finding for finding in excuse(report.findings) if finding.verdict.failed]
    assert all(report.cells[clause, "jax_sharded"] for clause in ("1.4", "2.1", "2.2", "3.5", "4.1", "4.2", "5.1"))


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
    model = JaxImpl().build(trial.config, trial.parameters, trial.dtype)
    pruned = subject.prune_heads(model, range(2, 8))
    return subject.gradients(pruned, *trial.inputs, trial.cotangent)


def test_gradients_that_are_not_shared_are_seen(sharded):
    trial = draw("eight heads, additive", CASES["eight heads, additive"], "float64")
    (gradients,) = sharded.run(__file__, "of_one_device", trial)
    for name, expected in oracle.backward(trial, oracle.forward(trial)).items():
        if name.startswith("attention"):
            assert not compare.within_gate(gradients[name], expected).holds, name


def collectives(subject, module, need_weights):
    """Of the compiled programs of the forward pass and of the gradients, in a mesh of either kind."""
    with subject.backend.numbers("float32"):
        x, found = jnp.ones((2, 3, 8)), []
        for kind in (AxisType.Auto, AxisType.Explicit):
            attention = subject.make(module, *((2, 2, 5) if module == "AdditiveAttention" else ()), 0.0)
            attention.block = 4  # less than the scores of one head: fused attention takes several
            layer = JaxImpl.make(subject, "MultiHeadAttention", *SIZES, 0.0, attention=attention)
            sharded = jax_impl.shard(layer, jax.make_mesh((4,), ("heads",), axis_types=(kind,)))
            call = partial(_call, need_weights=need_weights)
            closed, passed = jax.jit(partial(call, sharded)), jax.jit(call)
            np.testing.assert_array_equal(jax.tree.leaves(closed(x))[0], jax.tree.leaves(passed(sharded, x))[0])
            programs = [closed.lower(x), passed.lower(sharded, x), jax.jit(_gradients).lower(sharded, x)]
            found += [_counts(program.compile().as_text()) for program in programs]
    return found


def _call(layer, x, need_weights):
    return layer(x, x, x, need_weights=need_weights)


def _gradients(layer, x):
    return nnx.grad(lambda layer, x: layer(x, x, x).sum(), argnums=(0, 1))(layer, x)


def _counts(program):
    return {name: n for name in COLLECTIVES if (n := len(re.findall(rf" {name}(?:-start)?\(", program)))}


@pytest.mark.parametrize(
    ("module", "need_weights"),
    [("DotProductAttention", True), ("AdditiveAttention", True), ("FusedDotProductAttention", False)],
)
def test_one_all_reduce_forward_and_no_gather(sharded, module, need_weights):
    """And one backward, of all that is added up: the sum is closed over by `jax.jit`, or passed to it."""
    (found,) = sharded.run(__file__, "collectives", module, need_weights)
    assert found == [{"all-reduce": 1}] * 6


def on_two_axes(subject, trial, kinds):
    """Of heads along one axis of a mesh, and the batch along another: output, attention weights, gradients."""
    mesh = jax.make_mesh((2, 2), ("batch", "heads"), axis_types=kinds)
    with subject.backend.numbers(trial.dtype):
        layer, _ = JaxImpl().build(trial.config, trial.parameters, trial.dtype)
        sharded = jax_impl.shard(layer, mesh, axis="heads")
        tensors = [subject.backend.tensor(x, trial.dtype) for x in (*trial.inputs, trial.cotangent)]
        tensors = jax.device_put(tensors, NamedSharding(mesh, PartitionSpec("batch")))
        weights = jax.jit(partial(sharded, need_weights=True))(*tensors[:-1])[1]
        assert weights.sharding.shard_shape(weights.shape)[1] == trial.config.num_heads // 2
        output, gradients = jax.jit(_of_parameters)(sharded, *tensors)
        return *map(subject.backend.array, (output, weights)), jax_impl.export_weights(gradients)


def _of_parameters(layer, *tensors):
    *inputs, cotangent = tensors
    graph, parameters, rest = nnx.split(layer, nnx.Param, ...)
    output, pull = jax.vjp(lambda parameters: nnx.merge(graph, parameters, rest, copy=True)(*inputs), parameters)
    return output, nnx.merge(graph, *pull(cotangent), rest)


@pytest.mark.parametrize("kinds", [*product((AxisType.Auto, AxisType.Explicit), repeat=2)])
@pytest.mark.parametrize("name", ["eight heads", "eight heads, additive"])
def test_heads_along_one_axis_of_two_hold(sharded, name, kinds):
    trial = draw(name, replace(CASES[name], batch=4, valid_lens=(2, 5, 1, 3)), "float64")
    stages = oracle.forward(trial)
    ((output, weights, gradients),) = sharded.run(__file__, "on_two_axes", trial, kinds)
    assert compare.within_gate(output, stages["output"]).holds
    assert compare.within_gate(weights, stages["attention_weights"]).holds
    expected = oracle.backward(trial, stages)
    assert gradients.keys() == expected.keys() - {"queries", "keys", "values"}
    for name, gradient in gradients.items():
        assert compare.within_gate(gradient, expected[name]).holds, name


def compiled_again(subject):
    """How many programs JAX compiles for a first and a second call outside `jax.jit`, and so for gradients."""
    layer = jax_impl.MultiHeadAttention(8, 8, 8, 8, 8, 0.0, rngs=nnx.Rngs(0))
    mesh = jax.make_mesh((4,), ("heads",), axis_types=(AxisType.Auto,))
    sharded, x, compiled = jax_impl.shard(layer, mesh), jnp.ones((2, 5, 8)), []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    counts = []
    for call in (lambda: sharded(x, x, x), lambda: nnx.grad(lambda layer: layer(x, x, x).sum())(sharded)):
        for _ in range(2):
            compiled.clear()
            call()
            counts.append(compiled.count("/jax/core/compile/backend_compile_duration"))
    return counts


def test_a_second_call_outside_jit_compiles_nothing(sharded):
    ((first, second, first_gradient, second_gradient),) = sharded.run(__file__, "compiled_again")
    assert min(first, first_gradient) > 0
    assert second == second_gradient == 0


def born_in_parts(subject):
    found = []
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("heads",), axis_types=(kind,))

        def make(mesh=mesh):
            layer = jax_impl.MultiHeadAttention(256, 256, 256, 256, 8, 0.0, True, rngs=nnx.Rngs(0))
            return jax_impl.shard(layer, mesh)

        born, later = jax.jit(make)(), make()
        exported, expected = jax_impl.export_weights(born), jax_impl.export_weights(later)
        assert all((exported[name] == array).all() for name, array in expected.items())
        jax_impl.load_weights(born, expected)
        held = jax.jit(make).lower().compile().memory_analysis().output_size_in_bytes
        kernels = born.W_q.kernel[...], born.W_o.kernel[...]
        found.append((held, *(kernel.sharding.shard_shape(kernel.shape) for kernel in kernels)))
    return found


def test_a_layer_is_born_in_parts(sharded):
    """Made and sharded in one program, with the numbers that it would have had; a device holds a quarter of a layer."""
    ((*found,),) = sharded.run(__file__, "born_in_parts")
    for held, *shapes in found:
        assert 256 * 256 * 4 < held < 256 * 256 * 4 * 1.1  # of four such matrices
        assert shapes == [(256, 64), (64, 256)]


def dropped(subject, config, weights, x):
    layer, _ = subject.build(config, weights, "float32", "", 0.5)
    layer, x, key = subject.training(layer), jnp.asarray(x, jnp.float32), jax.random.key(0)
    call = jax.jit(lambda layer, x, key: layer(x, x, x, rngs=key))
    outputs = [call(layer, x, key), call(layer, x, key), layer(x, x, x), layer(x, x, x)]
    return [subject.backend.array(output) for output in outputs]


def test_heads_of_two_devices_do_not_drop_alike(sharded):
    """Four heads of the same parameters, and W_o the identity: each drops otherwise; a key gives the same again."""
    random = np.random.default_rng(0)
    weights = {f"W_{x}.weight": np.tile(random.normal(size=(2, 8)), (4, 1)) for x in "qkv"} | {"W_o.weight": np.eye(8)}
    ((first, again, own, next_one),) = sharded.run(
        __file__, "dropped", Config(*SIZES), weights, random.normal(size=(2, 5, 8))
    )
    for output in (first, own):
        heads = output.reshape(2, 5, 4, 2)
        assert all((heads[:, :, i] != heads[:, :, j]).any() for i in range(4) for j in range(i))
    np.testing.assert_array_equal(first, again)
    assert (own != next_one).any()


def refused(subject):
    layer = JaxImpl.make(subject, "MultiHeadAttention", *SIZES, 0.0)
    mesh = jax.make_mesh((4,), ("heads",))
    three = JaxImpl.make(subject, "MultiHeadAttention", 6, 6, 6, 6, 3, 0.0)
    before = jax_impl.export_weights(layer)
    sharded, x = jax_impl.shard(layer, mesh), jnp.ones((1, 2, 8))
    jax_impl.load_weights(sharded, {name: array + 1 for name, array in before.items()})
    assert all((jax_impl.export_weights(layer)[name] == array).all() for name, array in before.items())
    assert sharded.num_heads == 4
    calls = (
        lambda: jax_impl.shard(sharded, mesh),
        lambda: jax_impl.prune_heads(sharded, [0]),
        lambda: jax_impl.head_importance(sharded, lambda layer, x: layer(x, x, x).sum(), [(x,)]),
        lambda: sharded(x, x, x, 2),
        lambda: sharded(x, x, x, [2]),
        lambda: jax_impl.load_weights(sharded, before | {"W_q.bias": np.ones(8)}),
        lambda: jax_impl.shard(layer, mesh, axis="rows"),
        lambda: jax_impl.shard(layer, jax.make_mesh((4, 1), ("batch", "heads"))),
        lambda: jax_impl.shard(three, jax.make_mesh((1, 4), ("batch", "heads")), axis="heads"),
        lambda: jax_impl.shard(layer, 4, axis="heads"),
    )
    return [_words(call) for call in calls]


def _words(call):
    try:
        return call()
    except (TypeError, ValueError) as error:
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
            "ValueError: axis: expected one of heads, got rows",
            "ValueError: mesh: expected 1 axis, got 2",
            "ValueError: num_heads: expected a multiple of 4 devices, got 3",
            "TypeError: mesh: expected a mesh of devices, got int",
        ]
    ]
