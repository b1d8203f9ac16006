"""docs/devices.md in JAX: what is shown holds and sends what the page says; and what does not work does not.

Functions that take `subject` run in the process of several devices (`Spread.run`).
"""

import contextlib
import re
from dataclasses import replace
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_impl
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.storage import programs_folder
from shared_tests.subjects.jax_impl import JaxImpl

FUSED = "FusedDotProductAttention"
WAYS = {
    "The batch": ("The batch", 0, ""),
    "The batch, fused": ("The batch", 1, FUSED),
    "The heads": ("The heads", 0, ""),
    "The heads and the batch": ("The heads and the batch", 0, ""),
    "The length": ("The length", 0, ""),
}
"""Row of the page's table -> heading, which of its blocks, and the scoring module."""
INPUTS = "queries", "keys", "values"
KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"


@pytest.fixture(scope="module")
def devices():
    return find("jax_sharded", programs=programs_folder())


def stepped(subject, code, trial, module):
    """What a block makes: the output, the gradients, and what is sent forward and in a whole step."""
    with subject.backend.numbers(trial.dtype):
        names = _given(subject, trial, module) | {"loss": lambda output, target: (output * target).sum(-1).mean()}
        exec(code, names)
        gradients = jax_impl.export_weights(_like(names, names["gradients"]))
        gradients |= {x: subject.backend.array(found) for x, found in zip(INPUTS, names["of_inputs"], strict=True)}
        arguments = names.get("sharded", names["layer"]), names["inputs"], names["valid_lens"], names["target"]
        attend = names.get("attend", names["call"])
        forward = jax.jit(lambda layer, inputs, valid_lens: attend(layer, *inputs, valid_lens))
        # Of the loss above the gradients do not depend on the output, and all sums would be one.
        names["loss"] = lambda output, target: ((output - target) ** 2).mean()
        sent = _sent(forward, *arguments[:3]), _sent(names["step"](attend), *arguments)
        return subject.backend.array(names["output"]), gradients, sent


def _given(subject, trial, module=""):
    layer, dtype = JaxImpl().build(trial.config, trial.parameters, trial.dtype, module)
    layer.attention.block = 2 * trial.queries.shape[1] * trial.keys.shape[1]  # fused, two heads of a sequence at a time
    tensors = {x: subject.backend.tensor(getattr(trial, x), dtype) for x in (*INPUTS, "valid_lens", "cotangent")}
    inputs = tuple(tensors[x] for x in INPUTS)
    return {"layer": layer, "inputs": inputs, "valid_lens": tensors["valid_lens"], "target": tensors["cotangent"]}


def _like(names, gradients):
    """A layer whose parameters are the gradients."""
    layer = nnx.clone(names.get("sharded", names["layer"]))
    nnx.update(layer, gradients)
    return layer


def _sent(function, *arguments):
    program = function.lower(*arguments).compile().as_text()
    return {kind: len(re.findall(rf" {kind}(?:-start)?\(", program)) for kind in KINDS}


@pytest.mark.parametrize("way", WAYS)
def test_a_block_holds_and_sends_what_the_page_says(devices, blocks, trial, holds, sends, way):
    heading, number, module = WAYS[way]
    (setup,), code = blocks("jax", "What the blocks are given"), blocks("jax", heading)[number]
    ((output, gradients, sent),) = devices.run(__file__, "stepped", setup + code, trial, module)
    holds(trial, output, gradients)
    sends(f"{way}, JAX", *sent)


def test_every_block_is_run(blocks):
    run = [blocks("jax", heading)[number] for heading, number, _ in WAYS.values()]
    run += blocks("jax", "What the blocks are given") + blocks("jax", "More than one host")
    assert sorted(run) == sorted(blocks("jax"))


def test_it_reaches_two_hosts(on_two_hosts, blocks):
    printed = on_two_hosts("jax", JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_force_host_platform_device_count=2")
    lines = [line for text in printed for line in text.splitlines() if not line.startswith("[Gloo]")]
    assert lines == blocks("jax", "More than one host", "text")[0].splitlines()


def of_placed_batch(subject, trial, kind):
    """Lengths, and what a layer gives with them for a batch that is placed, as it is and within `jax.set_mesh`."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(kind,))
    with subject.backend.numbers(trial.dtype):
        layer, inputs, valid_lens, _ = _given(subject, trial).values()
        layer = jax.device_put(layer, NamedSharding(mesh, P()))
        found = []
        for lengths in (valid_lens, valid_lens[:, 0], None):
            given = jax.device_put((*inputs, lengths), NamedSharding(mesh, P("devices")))
            for within in (contextlib.nullcontext(), jax.set_mesh(mesh)):
                with within:
                    output = jax.jit(lambda layer, *given: layer(*given))(layer, *given)
                assert output.sharding.is_equivalent_to(NamedSharding(mesh, P("devices")), 3)
                found.append((lengths, output))
    return [tuple(None if x is None else subject.backend.array(x) for x in pair) for pair in found]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_batch_that_is_placed_with_lengths_of_every_kind(devices, trial, kind):
    """And stays where it is placed. On the kind of mesh that `jax.make_mesh` makes, JAX asks more of a function."""
    (found,) = devices.run(__file__, "of_placed_batch", trial, kind)
    assert len(found) == 6
    for lengths, output in found:
        assert within_gate(output, oracle.forward(replace(trial, valid_lens=lengths))["output"]).holds


def dropped_within_shard_map(subject, folded):
    """What fused attention of the same sequence on every device gives, with a key that is, or is not, the device's."""
    mesh, x = jax.make_mesh((jax.device_count(),), ("devices",)), jnp.ones((jax.device_count(), 6, 8))
    attention = jax_impl.FusedDotProductAttention(0.5, rngs=nnx.Rngs(0))
    layer = jax_impl.MultiHeadAttention(8, 8, 8, 8, 2, 0.5, attention=attention, rngs=nnx.Rngs(0))

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("devices"), P()), out_specs=P("devices"))
    def attend(layer, x, key):
        rngs = jax.random.fold_in(key, jax.lax.axis_index("devices")) if folded else key
        return layer(x, x, x, rngs=rngs)

    x = jax.device_put(x, NamedSharding(mesh, P("devices")))
    return subject.backend.array(jax.jit(attend)(layer, x, jax.random.key(0)))


def test_a_key_within_shard_map_is_the_same_on_all_devices(devices):
    (same,) = devices.run(__file__, "dropped_within_shard_map", False)
    (own,) = devices.run(__file__, "dropped_within_shard_map", True)
    for i, j in combinations(range(4), 2):
        assert (same[i] == same[j]).all()
        assert (own[i] != own[j]).any()


# What does not work


def placed(subject, trial, kind, place, module=""):
    """Inputs placed, and the rest left to the compiler: what is sent forward, or the error."""
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(kind,))
    with subject.backend.numbers(trial.dtype):
        layer, inputs, valid_lens, _ = _given(subject, trial, module).values()
        layer = jax.device_put(layer, NamedSharding(mesh, P()))
        inputs, valid_lens = jax.device_put((inputs, valid_lens), NamedSharding(mesh, place))
        call = jax.jit(lambda layer, *given: layer(*given))
        try:
            output = subject.backend.array(call(layer, *inputs, valid_lens))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return output, _sent(call, layer, *inputs, valid_lens)


@pytest.mark.parametrize(("place", "module"), [(P(None, "devices"), ""), (P("devices"), FUSED)])
@pytest.mark.parametrize("trial", ["float32"], indirect=True)
def test_a_length_that_is_placed_and_a_batch_of_fused_attention(devices, trial, page, in_words, place, module):
    (error,) = devices.run(__file__, "placed", trial, AxisType.Explicit, place, module)
    assert error.split("\n")[0].partition(" Got")[0] in page
    ((output, sent),) = devices.run(__file__, "placed", trial, AxisType.Auto, place, module)
    assert within_gate(output, oracle.forward(trial)["output"]).holds
    assert f"{in_words(sent)} forward" in page


def on_two_axes(subject, trial):
    """The heads and the batch on a mesh that `jax.make_mesh` makes: the output, and what is sent forward."""
    mesh = jax.make_mesh((2, 2), ("batch", "heads"))
    with subject.backend.numbers(trial.dtype):
        layer, inputs, valid_lens, _ = _given(subject, trial).values()
        sharded = jax_impl.shard(layer, mesh, axis="heads")
        inputs, valid_lens = jax.device_put((inputs, valid_lens), NamedSharding(mesh, P("batch")))
        call = jax.jit(lambda layer, *given: layer(*given))
        given = sharded, *inputs, valid_lens
        return subject.backend.array(call(*given)), _sent(call, *given)


def test_the_heads_and_the_batch_on_an_explicit_mesh(devices, trial, page, in_words):
    ((output, sent),) = devices.run(__file__, "on_two_axes", trial)
    assert within_gate(output, oracle.forward(trial)["output"]).holds
    assert sent["all-gather"] > 0
    assert f"{in_words(sent)} forward" in page


def of_one_within_another(subject, trial):
    """What JAX says of heads spread within a batch that is divided by hand."""
    mesh = jax.make_mesh((2, 2), ("batch", "heads"), axis_types=(AxisType.Auto, AxisType.Auto))
    batch = P("batch")
    with subject.backend.numbers(trial.dtype):
        layer, inputs, valid_lens, _ = _given(subject, trial).values()
        sharded = jax_impl.shard(layer, mesh, axis="heads")

        @partial(jax.shard_map, mesh=mesh, in_specs=(P(), *[batch] * 4), out_specs=batch, axis_names={"batch"})
        def attend(layer, *given):
            return layer(*given)

        try:
            attend(sharded, *inputs, valid_lens)
        except ValueError as error:
            return f"ValueError: {error}"


@pytest.mark.parametrize("trial", ["float32"], indirect=True)
def test_heads_spread_within_a_batch_divided_by_hand(devices, trial, page):
    (error,) = devices.run(__file__, "of_one_within_another", trial)
    assert f"{error.partition(' AbstractMesh')[0]} …" in page


def of_three_heads(subject):
    """Cut by hand for two devices, each of which takes its columns for one head, or for three."""
    layer, x = jax_impl.MultiHeadAttention(12, 12, 12, 12, 3, 0.0, rngs=nnx.Rngs(0)), jnp.sin(jnp.arange(192.0))
    x, mesh = x.reshape(2, 8, 12), jax.make_mesh((2,), ("heads",), devices=jax.devices()[:2])
    graph, parameters, rest = nnx.split(layer, nnx.Param, ...)
    specs = nnx.from_flat_state(
        (path, parameter.replace(P("heads") if path[0] == "W_o" else P(None, "heads")))
        for path, parameter in nnx.to_flat_state(parameters)
    )
    parameters = jax.device_put(parameters, jax.tree.map(partial(NamedSharding, mesh), specs))
    found = []
    for num_heads in (1, 3):

        @partial(jax.shard_map, mesh=mesh, in_specs=(specs, P()), out_specs=P())
        def attend(parameters, x, num_heads=num_heads):
            part = nnx.merge(graph, parameters, rest, copy=True)
            part.num_heads = num_heads
            return jax.lax.psum(part(x, x, x), "heads")

        output = attend(parameters, x)
        found.append((output.shape, float(abs(output - layer(x, x, x)).max())))
    try:
        jax_impl.shard(layer, mesh)
    except ValueError as error:
        return found, str(error)


def test_three_heads_on_two_devices_by_hand(devices, page):
    ((found, refused),) = devices.run(__file__, "of_three_heads")
    for shape, apart in found:
        assert shape == (2, 8, 12)
        assert apart > 0.1
    assert refused in page


def outside_jit(subject):
    """The gradient of a sharded layer's sum by JAX as it is, the same within `jax.set_mesh`, and on another mesh."""
    layer, x = jax_impl.MultiHeadAttention(12, 12, 12, 12, 4, 0.0, rngs=nnx.Rngs(0)), jnp.sin(jnp.arange(192.0))
    x = x.reshape(2, 8, 12)

    def gradient(layer):
        return jax_impl.export_weights(nnx.grad(lambda layer: layer(x, x, x).sum())(layer))["W_q.weight"]

    def apart(mesh, within):
        with within:
            return float(abs(gradient(jax_impl.shard(layer, mesh)) - gradient(layer)).max())

    mesh, auto = (jax.make_mesh((4,), ("heads",), axis_types=(kind,)) for kind in (AxisType.Explicit, AxisType.Auto))
    try:
        apart(mesh, contextlib.nullcontext())
    except ValueError as error:
        return f"ValueError: {error}", apart(mesh, jax.set_mesh(mesh)), apart(auto, contextlib.nullcontext())


def test_a_gradient_outside_jit_needs_the_mesh_set(devices, page):
    ((error, *apart),) = devices.run(__file__, "outside_jit")
    assert error in page
    assert max(apart) < 1e-5
