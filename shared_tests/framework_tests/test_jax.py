"""What is JAX's own: keys, transforms, and modules taken apart leave an attention layer what it is."""

import pickle
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from shared_tests.harness.find import find
from shared_tests.harness.known import known_differences
from shared_tests.storage import programs_folder

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")
jax_impl = pytest.importorskip("jax_impl")

jnp = jax.numpy
LENS = np.array([2, 4])
PER_QUERY = np.array([[1, 2, 3], [4, 3, 0]])


class InBlocks(jax_impl.FusedDotProductAttention):
    block = 10


SCORING = {
    "dot product": jax_impl.DotProductAttention,
    "additive": partial(jax_impl.AdditiveAttention, 4, 4, 13),
    "fused": jax_impl.FusedDotProductAttention,
    "in blocks": InBlocks,
}
scorings = pytest.mark.parametrize("scoring", SCORING)
both = pytest.mark.parametrize("scoring", ["dot product", "fused", "in blocks"])
equal, close = np.testing.assert_array_equal, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True, scope="module")
def kept_programs():
    """Compiled once, as for the suite: nearly all the time here is XLA compiling."""
    find("jax_impl").backend.keep_programs(programs_folder())


def score(scoring, dropout=0.0, **options):
    needs = {"rngs": nnx.Rngs(0)} if scoring == "additive" else {}
    return SCORING[scoring](dropout, **needs | options)


def make(scoring="dot product", dropout=0.0, sizes=(7, 5, 11, 12), **options):
    return jax_impl.MultiHeadAttention(
        *sizes, 3, dropout, attention=score(scoring, dropout), rngs=nnx.Rngs(0), **options
    )


def draw(*batch, queries=5, keys=7, values=11):
    """Queries, keys and values, of 3 queries and 4 keys."""
    random = np.random.default_rng(1)
    sizes = (*batch, 3, queries), (*batch, 4, keys), (*batch, 4, values)
    return [jnp.asarray(random.normal(size=size), jnp.float32) for size in sizes]


def reveal(scoring):
    """(a scoring module that drops half, inputs whose output is the attention weights after dropout)."""
    q, k, _ = draw(2, queries=4, keys=4)
    return score(scoring, 0.5), (q, k, jnp.broadcast_to(jnp.eye(4), (2, 4, 4)))


def gradients(layer, call=lambda layer, *inputs: layer(*inputs)):
    """Those of the parameters, of the sum of squares of the output."""
    return jax.tree.leaves(nnx.grad(lambda layer: (call(layer, *draw(2), LENS) ** 2).sum())(layer))


class Empty(jax_impl.DotProductAttention):
    """Its truth value is False."""

    def __len__(self):
        return 0


def stream(seed):
    return nnx.Rngs(seed).dropout


@both
@pytest.mark.parametrize("kind", [nnx.Rngs, stream, jax.random.key])
def test_mask_is_that_of_the_rngs_given_to_the_call(scoring, kind):
    """Under `jax.jit`, which keeps no state: what is drawn comes with the call, and is drawn alike for one seed."""
    attend = jax.jit(lambda layer, inputs, rngs: layer(*inputs, rngs=rngs))
    for layer, inputs in (reveal(scoring), (make(scoring, 0.5), draw(2))):
        first, other, again = (attend(layer, inputs, kind(seed)) for seed in (1, 2, 1))
        equal(first, again)
        assert (first != other).any()


@both
def test_rngs_of_the_call_go_before_the_modules_own(scoring):
    module, inputs = reveal(scoring)
    own = score(scoring, 0.5, rngs=nnx.Rngs(7))
    equal(own(*inputs, rngs=jax.random.key(1)), module(*inputs, rngs=jax.random.key(1)))


@both
def test_stream_given_to_the_call_moves_on(scoring):
    module, inputs = reveal(scoring)
    rngs = nnx.Rngs(1)
    assert (module(*inputs, rngs=rngs) != module(*inputs, rngs=rngs)).any()


@both
def test_rngs_are_not_needed_without_dropout(scoring):
    module, inputs = reveal(scoring)
    module.eval()
    equal(module(*inputs, rngs=jax.random.key(1)), module(*inputs))


@pytest.mark.parametrize("block", [2**20, 10])
def test_fused_gradient_uses_the_mask_of_the_output(block):
    """The output being the weights after dropout, the gradient by the values is their transpose times the cotangent."""
    module, (q, k, values) = reveal("fused")
    module.block = block
    attend = jax.jit(lambda module, values, key: module(q, k, values, rngs=key))
    for key in jax.random.split(jax.random.key(3), 2):
        dropped, pull = jax.vjp(lambda values, key=key: attend(module, values, key), values)
        cotangent = jnp.cos(jnp.arange(24.0)).reshape(2, 3, 4)
        close(pull(cotangent)[0], dropped.mT @ cotangent)


@pytest.mark.parametrize("block", [8, 48])
def test_keys_that_no_query_of_a_block_attends_to_are_not_looked_at(block):
    """Nor are values. They are left out by quarters; where a query attends to none, it has the mean of all."""
    random = np.random.default_rng(0)
    queries, keys, values = (jnp.asarray(random.normal(size=(3, n, 4)), jnp.float32) for n in (3, 8, 8))
    scoring = jax_impl.FusedDotProductAttention(0.0)
    scoring.block = block
    gradients = jax.jit(jax.grad(lambda *given: scoring(*given).sum(), argnums=(0, 1, 2)))

    def padded(x):
        return x.at[:, 2:].set(jnp.nan)

    for lens in (jnp.array([1, 2, 2]), jnp.array([[1, 2, 1], [2, 2, 2], [1, 1, 1]])):
        close(scoring(queries, padded(keys), padded(values), lens), scoring(queries, keys, values, lens))
        for given, expected in zip(
            gradients(queries, padded(keys), padded(values), lens), gradients(queries, keys, values, lens), strict=True
        ):
            close(given, expected)
    assert jnp.isnan(scoring(queries, padded(keys), padded(values), jnp.array([0, 2, 2]))).any()
    assert jnp.isnan(scoring(queries, padded(keys), padded(values), jnp.array([3, 3, 3]))).any()


@scorings
def test_scan_over_keys_draws_a_mask_at_every_step(scoring):
    """And a key drops by itself what it drops in the scan, and under vmap."""
    module, inputs = reveal(scoring)
    keys = jax.random.split(jax.random.key(2), 3)
    scanned = jax.lax.scan(lambda _, key: (None, module(*inputs, rngs=key)), None, keys)[1]
    looped = np.stack([module(*inputs, rngs=key) for key in keys])
    mapped = jax.vmap(lambda key: module(*inputs, rngs=key))(keys)
    close(scanned, looped)
    close(mapped, looped)
    assert len({row.tobytes() for row in looped != 0}) == 3


@pytest.mark.parametrize("dropouts", [(0.1, 0.0), (0.0, 0.1)])
def test_two_dropouts_are_refused(dropouts):
    ours, its = dropouts
    words = f"attention: expected dropout {ours}, as the layer's, got {its}"
    attention = jax_impl.FusedDotProductAttention(its)
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        jax_impl.MultiHeadAttention(7, 5, 11, 12, 3, ours, attention=attention, rngs=nnx.Rngs(0))


def test_scoring_module_whose_truth_value_is_false_is_used():
    layer = jax_impl.MultiHeadAttention(7, 5, 11, 12, 3, 0.0, attention=Empty(0.0), rngs=nnx.Rngs(0))
    assert isinstance(layer.attention, Empty)


@pytest.mark.parametrize("lens", [LENS, PER_QUERY], ids=["lengths", "per query"])
@pytest.mark.parametrize("how", [jax.jit, lambda function: function], ids=["compiled", "eager"])
def test_lengths_may_be_a_numpy_array(how, lens):
    layers, (q, k, v) = [make(name) for name in SCORING], draw(2)

    def attend(lens):
        outputs = [layer(q, k, v, lens) for layer in layers]
        alone = [layer.attention(q[..., :4], k[..., :4], v, lens) for layer in layers]
        return [jax_impl.masked_softmax(q @ k[..., :5].mT, lens), *outputs, *alone]

    jax.tree.map(close, how(lambda: attend(lens))(), attend(jnp.asarray(lens)))


@scorings
@pytest.mark.parametrize("lens", [None, LENS, PER_QUERY], ids=["no lengths", "lengths", "per query"])
def test_arrays_of_different_ranks_never_meet(scoring, lens):
    """Nor do they in flax' own layers: users may have JAX refuse it in the whole of their program."""
    layer = make(scoring, dropout=0.5, bias=True)
    with jax.numpy_rank_promotion("raise"):
        gradients = nnx.grad(lambda layer: layer(*draw(2), lens, rngs=nnx.Rngs(0)).sum())(layer)
    assert jnp.any(gradients["W_v"].kernel[...] != 0)


def test_head_dim_sets_the_width_of_the_heads():
    layer = make("additive", sizes=(7, 5, 11, 10), head_dim=4, bias=True)
    kernels = [linear.kernel.shape for linear in (layer.W_q, layer.W_k, layer.W_v, layer.W_o)]
    assert kernels == [(5, 12), (7, 12), (11, 12), (12, 10)]
    output, weights = layer(*draw(2), LENS, need_weights=True)
    assert (output.shape, weights.shape) == ((2, 3, 10), (2, 3, 3, 4))
    assert jax_impl.export_weights(layer)["W_o.weight"].shape == (10, 12)
    equal(make(head_dim=4)(*draw(2), LENS), make()(*draw(2), LENS))


def test_repr_tells_the_sizes():
    for size in ("key_size=7", "query_size=5", "value_size=11", "num_hiddens=12", "num_heads=3", "head_dim=4"):
        assert size in repr(make())
    additive = jax_impl.AdditiveAttention(4, 6, 13, 0.0, rngs=nnx.Rngs(0))
    for size in ("key_size=4", "query_size=6", "num_hiddens=13"):
        assert size in repr(additive)


@scorings
def test_vmap_is_a_loop(scoring):
    layer, inputs, lens = make(scoring), draw(3, 2), jnp.array([[1, 2], [3, 4], [4, 0]])
    looped = [layer(*(x[i] for x in (*inputs, lens))) for i in range(3)]
    close(jax.vmap(layer)(*inputs, lens), np.stack(looped))


@both
@pytest.mark.parametrize("transform", [jax.jit, jax.checkpoint, nnx.jit, nnx.remat])
def test_transformed_layer_has_the_same_output_and_gradients(scoring, transform):
    layer, call = make(scoring), transform(lambda layer, *inputs: layer(*inputs))
    close(call(layer, *draw(2), LENS), layer(*draw(2), LENS))
    jax.tree.map(close, gradients(layer, call), gradients(layer))


@scorings
def test_gradient_by_the_inputs_is_the_transpose_of_jvp(scoring):
    layer, inputs = make(scoring), draw(2)
    tangents = [jnp.cos(x) for x in inputs]
    output, forward = jax.jvp(lambda *x: layer(*x, LENS), inputs, tangents)
    backward = jax.grad(lambda x: (layer(*x, LENS) ** 2).sum() / 2)(inputs)
    close((output * forward).sum(), sum((x * t).sum() for x, t in zip(backward, tangents, strict=True)))


@scorings
def test_scan_is_a_loop(scoring):
    """The output is the next queries, keys and values."""
    layer, x = make(scoring, sizes=(12, 12, 12, 12)), draw(2, queries=12)[0]
    looped = x
    for _ in range(5):
        looped = layer(looped, looped, looped, LENS)
    scanned, _ = jax.lax.scan(lambda x, _: (layer(x, x, x, LENS), None), x, length=5)
    close(scanned, looped)


def test_nnx_jit_draws_another_mask_every_call():
    """It keeps the module's own stream, as `jax.jit` cannot."""
    layer = jax_impl.MultiHeadAttention(7, 5, 11, 12, 3, 0.5, rngs=nnx.Rngs(0))
    attend = nnx.jit(lambda layer, *inputs: layer(*inputs))
    assert (attend(layer, *draw(2)) != attend(layer, *draw(2))).any()


@scorings
@pytest.mark.parametrize("how", ["split and merge", "clone", "pickle"])
def test_copy_gives_the_same_bits_and_is_its_own(scoring, how):
    layer = make(scoring, bias=True)
    output = layer(*draw(2), LENS)
    graph, state = nnx.split(layer)
    state = jax.tree.map(jnp.array, state) if how == "split and merge" else state
    state = pickle.loads(pickle.dumps(nnx.to_pure_dict(state))) if how == "pickle" else state
    other = nnx.clone(layer) if how == "clone" else nnx.merge(graph, state)
    equal(other(*draw(2), LENS), output)
    other.W_q.kernel[...] = jnp.zeros((5, 12))
    equal(layer(*draw(2), LENS), output)


@scorings
def test_exported_layer_is_the_compiled_one_and_is_lowered_for_accelerators(scoring):
    """Its gradients too, with dropout; that what is lowered runs there, only an accelerator can say."""
    platforms = "cpu", "cuda", "rocm", "tpu"
    attend = jax.jit(partial(lambda layer, *inputs: layer(*inputs), make(scoring)))
    inputs = (*draw(2), LENS)
    exported = jax.export.deserialize(jax.export.export(attend, platforms=platforms)(*inputs).serialize())
    equal(exported.call(*inputs), attend(*inputs))
    loss = partial(lambda layer, *inputs: layer(*inputs, LENS, rngs=jax.random.key(0)).sum(), make(scoring, 0.5))
    assert jax.export.export(jax.jit(jax.grad(loss)), platforms=platforms)(*draw(2)).platforms == platforms


@scorings
def test_pruned_layer_keeps_mode_and_metadata_of_parameters(scoring):
    layer = make(scoring, 0.5, bias=True)
    layer.train()
    layer.W_k.kernel.set_metadata(out_sharding=(None, "model"))
    pruned = jax_impl.prune_heads(layer, [1])
    assert pruned.W_k.kernel.get_metadata()["out_sharding"] == (None, "model")
    assert not pruned.attention.dropout.deterministic
    assert (pruned.W_q.out_features, pruned.W_o.in_features) == (8, 8)
    assert layer.W_q.kernel.shape == (5, 12)


def test_loss_that_does_not_use_the_layer_it_is_given_is_refused():
    """A model in a closure is no function of the layer: JAX's gradient would be 0, and nothing would say so."""
    layer, inputs = make(), draw(2)
    model = nnx.Sequential(lambda *inputs: layer(*inputs), nnx.Linear(12, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="loss: expected to depend on the layer that it is given"):
        jax_impl.head_importance(layer, lambda _, *inputs: model(*inputs).sum(), [inputs])


@scorings
def test_importance_is_the_same_with_a_compiled_loss(scoring):
    layer, inputs = make(scoring), draw(2)

    def loss(layer, *inputs):
        return (layer(*inputs, LENS) ** 2).sum()

    eager, compiled = (jax_impl.head_importance(layer, f, [inputs]) for f in (loss, jax.jit(loss)))
    close(compiled, eager)


@pytest.mark.parametrize("entry", [e for e in known_differences() if e.subject == "jax_impl" and e.releases], ids=str)
def test_a_difference_of_some_releases_is_in_them_alone(entry):
    """The reproduction that is listed fails where what is installed is outside the range."""
    if entry.counts:
        exec(entry.reproduction, {})
    else:
        with pytest.raises(AssertionError):
            exec(entry.reproduction, {})


HALF_WRITTEN = """
import sys
from pathlib import Path
import jax, numpy as np
from shared_tests.harness.find import find

find("jax_impl").backend.keep_programs(Path(sys.argv[1]))
square = jax.jit(lambda x: x @ x)
first = square(np.eye(3))
(program,) = Path(sys.argv[1]).rglob("*-cache")
program.write_bytes(program.read_bytes()[:-20])
jax.clear_caches()
np.testing.assert_array_equal(square(np.eye(3)), first)
"""


def test_a_program_that_another_process_is_just_writing_is_compiled(tmp_path):
    """Without a word: JAX would warn of it."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", HALF_WRITTEN, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
