"""What is Keras' and TensorFlow's own: masks, graphs, policies and files leave an attention layer what it is."""

import re
from functools import partial

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
tf_impl = pytest.importorskip("tf_impl")

LENS = np.array([2, 4])
PER_QUERY = np.array([[1, 2, 3], [4, 3, 0]])
MASK = np.array([[0, 0, 1, 1], [1, 0, 0, 1]], bool)
"""Padding on the left, and gaps."""
PADDING = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
SCORING = {
    "dot product": tf_impl.DotProductAttention,
    "additive": partial(tf_impl.AdditiveAttention, 4, 4, 13),
    "fused": tf_impl.FusedDotProductAttention,
}
HOW = {
    "eager": lambda function: function,
    "graph": partial(tf.function, autograph=False),
    "XLA": partial(tf.function, jit_compile=True, autograph=False),
}
scorings = pytest.mark.parametrize("scoring", SCORING)
runs = pytest.mark.parametrize("how", HOW.values(), ids=HOW)
graphs = pytest.mark.parametrize("how", [HOW["graph"], HOW["XLA"]], ids=["graph", "XLA"])
equal, close = np.testing.assert_array_equal, partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def make(scoring="dot product", dropout=0.0, sizes=(7, 5, 11, 12), dtype="float32", **options):
    keras.utils.set_random_seed(0)
    attention = SCORING[scoring](dropout, dtype=dtype)
    return tf_impl.MultiHeadAttention(*sizes, 3, dropout, attention=attention, dtype=dtype, **options)


def draw(queries=5, keys=7, values=11):
    """Queries, keys and values: a batch of 2, of 3 queries and 4 keys."""
    random = np.random.default_rng(1)
    sizes = (2, 3, queries), (2, 4, keys), (2, 4, values)
    return [tf.constant(random.normal(size=size), tf.float32) for size in sizes]


def without(layer, inputs, attend):
    """The output if every query's keys and values are only those that it may attend to, (batch, queries, keys)."""
    q, k, v = (x.numpy() for x in inputs)

    def row(b, i):
        return layer(q[b : b + 1, i : i + 1], k[b : b + 1, attend[b, i]], v[b : b + 1, attend[b, i]])[0, 0]

    return np.stack([[row(b, i) for i in range(3)] for b in range(2)])


def gradients(layer, inputs, **masks):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(*inputs, **masks) ** 2)
    return tape.gradient(loss, [*inputs, *layer.trainable_variables])


def functional(layer, sizes=(5, 7, 11)):
    """A model of queries, keys and values, of any batch and length."""
    inputs = [keras.Input((None, size)) for size in sizes]
    return keras.Model(inputs, layer(*inputs))


@keras.saving.register_keras_serializable(package="trihead tests")
class Empty(tf_impl.DotProductAttention):
    """Its truth value is False."""

    def __len__(self):
        return 0


@scorings
@runs
def test_mask_on_keys_is_as_if_they_were_left_out(scoring, how):
    """The mask is the tensor's own, of an embedding that knows which numbers are padding."""
    layer, embedding = make(scoring), keras.layers.Embedding(9, 7, mask_zero=True)
    q, _, v = draw()
    numbers = tf.constant(MASK * np.array([[1, 2, 3, 4], [5, 6, 7, 8]]))
    output = how(lambda q, numbers, v: layer(q, embedding(numbers), v))(q, numbers, v)
    close(output, without(layer, (q, embedding(numbers), v), np.repeat(MASK[:, None], 3, axis=1)))


@scorings
@runs
def test_masks_in_a_functional_model_meet(scoring, how):
    """Values have a mask of their own, and keys: what either hides is hidden, from a scoring module alone too."""
    q, k, v = draw(queries=4, keys=4)
    k, v = tf.where(MASK[:, :, None], k, 0.0), tf.where(PADDING[:, :, None], v, 0.0)
    attend = np.repeat((MASK & PADDING)[:, None], 3, axis=1)
    inputs = [keras.Input((None, size)) for size in (4, 4, 11)]
    layers = make(scoring, sizes=(4, 4, 11, 12)), SCORING[scoring](0.0)
    masked = inputs[0], *map(keras.layers.Masking(), inputs[1:])
    model = keras.Model(inputs, [layer(*masked) for layer in layers])
    for layer, output in zip(layers, how(lambda *x: model([*x]))(q, k, v), strict=True):
        close(output, without(layer, (q, k, v), attend))


@scorings
@pytest.mark.parametrize("block", [2**20, 10])
def test_mask_and_lengths_both_apply(scoring, block):
    """Where they leave no key, the row is uniform over all keys, as it is for a length of 0."""
    layer, inputs = make(scoring), draw()
    layer.attention.block = block
    uniform = layer(*inputs, tf.zeros(2, tf.int32))
    for lens in (LENS, PER_QUERY):
        attend = np.broadcast_to(MASK[:, None] & (np.arange(4) < lens.reshape(2, -1, 1)), (2, 3, 4))
        some = attend.any(axis=-1, keepdims=True)
        output = layer(*inputs, tf.constant(lens), keys_mask=MASK)
        close(output, np.where(some, without(layer, inputs, attend | ~some), uniform))


@scorings
@pytest.mark.parametrize("block", [2**20, 10])
def test_masked_keys_change_no_bit_and_get_no_gradient(scoring, block):
    layer, (q, k, v) = make(scoring), draw()
    layer.attention.block = block
    other_k, other_v = (tf.where(MASK[:, :, None], x, 50.0) for x in (k, v))
    equal(layer(q, k, v, keys_mask=MASK), layer(q, other_k, other_v, values_mask=MASK))
    by_k, by_v = gradients(layer, [q, k, v], keys_mask=MASK)[1:3]
    for gradient in (by_k.numpy(), by_v.numpy()):
        assert not gradient[~MASK].any()
        assert gradient[MASK].any()


@pytest.mark.parametrize("scoring", ["dot product", "additive"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_masked_keys_get_weight_zero(scoring, dtype):
    _, weights = make(scoring, dtype=dtype)(*draw(), keys_mask=MASK, need_weights=True)
    weights = np.moveaxis(tf.cast(weights, tf.float32).numpy(), -1, 1)  # (batch, keys, heads, queries)
    assert not weights[~MASK].any()
    assert (weights[MASK] > 0).all()


@pytest.mark.parametrize(
    ("scoring", "need_weights"),
    [("dot product", False), ("additive", False), ("fused", False), ("dot product", True), ("additive", True)],
)
def test_mask_on_queries_goes_on_with_the_output(scoring, need_weights):
    layer, inputs, mask = make(scoring), draw(queries=4, keys=4), np.array([[1, 1, 0], [0, 1, 1]], bool)
    for attend, q, k in ((layer.attention, *inputs[:2]), (layer, *draw()[:2])):
        masked = keras.layers.Masking()(tf.where(mask[:, :, None], q, 0.0))
        output = attend(masked, k, inputs[2], need_weights=need_weights)
        equal((output[0] if need_weights else output)._keras_mask, mask)


def test_layer_after_a_masked_one_sees_the_mask():
    mask = np.array([[1, 1, 0], [0, 1, 1]], bool)
    x = keras.Input((3, 5))
    masked, layer = keras.layers.Masking()(x), make(sizes=(5, 5, 5, 12))
    model = keras.Model(x, keras.layers.GlobalAveragePooling1D()(layer(masked, masked, masked)))
    q = tf.where(mask[:, :, None], draw()[0], 0.0)
    rows = layer(q, q, q, keys_mask=mask).numpy()
    close(model(q), [rows[b, mask[b]].mean(axis=0) for b in range(2)])


@pytest.mark.parametrize("dropouts", [(0.1, 0.0), (0.0, 0.1)])
def test_two_dropouts_are_refused(dropouts):
    ours, its = dropouts
    words = f"attention: expected dropout {ours}, as the layer's, got {its}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        tf_impl.MultiHeadAttention(7, 5, 11, 12, 3, ours, attention=tf_impl.FusedDotProductAttention(its))


def test_scoring_module_whose_truth_value_is_false_is_used():
    attention = Empty(0.0)
    assert tf_impl.MultiHeadAttention(7, 5, 11, 12, 3, 0.0, attention=attention).attention is attention


@pytest.mark.parametrize("lens", [LENS, PER_QUERY], ids=["lengths", "per query"])
@pytest.mark.parametrize("how", [HOW["eager"], HOW["graph"]], ids=["eager", "graph"])
def test_lengths_may_be_a_numpy_array(how, lens):
    layers, (q, k, v) = [make(name) for name in SCORING], draw()

    def attend(lens):
        outputs = [layer(q, k, v, lens) for layer in layers]
        alone = [layer.attention(q[..., :4], k[..., :4], v, lens) for layer in layers]
        return [tf_impl.masked_softmax(tf.matmul(q, k[..., :5], transpose_b=True), lens), *outputs, *alone]

    for given, expected in zip(how(lambda: attend(lens))(), attend(tf.constant(lens)), strict=True):
        close(given, expected)


@pytest.mark.parametrize("how", [HOW["eager"], HOW["graph"]], ids=["eager", "graph"])
def test_lengths_in_another_order_of_bytes_are_refused(how):
    """In a graph TensorFlow itself takes their bytes for other numbers."""
    layer, (q, k, v) = make("dot product"), draw()
    with pytest.raises(TypeError, match=r"^valid_lens: expected int dtype, got >i8$"):
        how(lambda: layer(q, k, v, LENS.astype(">i8")))()


@pytest.mark.parametrize("place", ["queries", "keys", "values", "scores"])
def test_input_of_unknown_rank_is_refused(place):
    axes = "batch, queries, keys" if place == "scores" else f"batch, {place.replace('values', 'keys')}, width"
    words = re.escape(f"{place}: expected rank 3 ({axes}), got unknown rank")
    layer, known = make(sizes=(4, 4, 4, 12)), tf.zeros((2, 3, 4))
    for attend in (layer, *(scoring(0.0) for scoring in SCORING.values())):

        def call(x, attend=attend):
            inputs = {"queries": known, "keys": known, "values": known} | {place: x}
            return tf_impl.masked_softmax(x) if place == "scores" else attend(**inputs)

        with pytest.raises(ValueError, match=words):
            tf.function(call, input_signature=[tf.TensorSpec(None)]).get_concrete_function()


def test_head_dim_sets_the_width_of_the_heads():
    layer = make("additive", sizes=(7, 5, 11, 10), head_dim=4, bias=True)
    kernels = [tuple(linear.kernel.shape) for linear in (layer.W_q, layer.W_k, layer.W_v, layer.W_o)]
    assert kernels == [(5, 12), (7, 12), (11, 12), (12, 10)]
    output, weights = layer(*draw(), LENS, need_weights=True)
    assert (tuple(output.shape), tuple(weights.shape)) == ((2, 3, 10), (2, 3, 3, 4))
    assert tf_impl.export_weights(layer)["W_o.weight"].shape == (10, 12)
    equal(make(head_dim=4)(*draw(), LENS), make()(*draw(), LENS))


def test_head_dim_is_kept_by_config_and_file(tmp_path):
    layer = make(sizes=(7, 5, 11, 10), head_dim=4)
    assert layer.get_config()["head_dim"] == tf_impl.MultiHeadAttention.from_config(layer.get_config()).head_dim == 4
    model = functional(layer)
    model.save(tmp_path / "model.keras")
    equal(keras.saving.load_model(tmp_path / "model.keras")(draw()), model(draw()))


def test_repr_tells_the_sizes():
    for size in ("key_size=7", "query_size=5", "value_size=11", "num_hiddens=12", "num_heads=3", "head_dim=4"):
        assert size in repr(make())
    for size in ("key_size=4", "query_size=6", "num_hiddens=13"):
        assert size in repr(tf_impl.AdditiveAttention(4, 6, 13, 0.0))


@pytest.mark.parametrize(
    ("scoring", "masked"), [("dot product", False), ("dot product", True), ("additive", True), ("fused", True)]
)
def test_fit_with_xla_learns_what_it_learns_without(scoring, masked):
    found, (x, *_) = [], draw()
    x = tf.concat([x[:, :2], 0 * x[:, :1]], axis=1)
    for jit_compile in (False, True):
        layer, inputs = make(scoring, sizes=(5, 5, 5, 12)), keras.Input((None, 5))
        tokens = keras.layers.Masking()(inputs) if masked else inputs
        pooled = keras.layers.GlobalAveragePooling1D()(layer(tokens, tokens, tokens))
        model = keras.Model(inputs, keras.layers.Dense(1)(pooled))
        before = [w.copy() for w in model.get_weights()]
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(x, tf.ones((2, 1)), batch_size=2, epochs=2, verbose=0)
        found.append(model.get_weights())
        assert all((old != new).any() for old, new in zip(before, found[-1], strict=True))
    for eager, compiled in zip(*found, strict=True):
        close(compiled, eager)


@scorings
@pytest.mark.parametrize(("dtype", "unit"), [("mixed_float16", 2**-11), ("mixed_bfloat16", 2**-8)])
def test_mixed_precision_is_near_and_keeps_parameters_wide(scoring, dtype, unit):
    layer, wide = make(scoring, dtype=dtype), make(scoring)
    output = layer(*draw(), LENS)
    assert output.dtype == dtype.removeprefix("mixed_")
    assert {weight.dtype for weight in layer.weights if weight.trainable} == {"float32"}
    tf_impl.load_weights(wide, tf_impl.export_weights(layer))
    np.testing.assert_allclose(tf.cast(output, tf.float32), wide(*draw(), LENS), rtol=0, atol=8 * unit)


@scorings
@pytest.mark.parametrize("how", ["file", "clone", "config"])
def test_copy_of_a_model_gives_the_same_bits(scoring, how, tmp_path):
    layer = make(scoring, bias=True)
    model = functional(layer)
    if how == "file":
        model.save(tmp_path / "model.keras")
        other = keras.saving.load_model(tmp_path / "model.keras")
    else:
        fresh = type(layer).from_config(layer.get_config())
        other = keras.models.clone_model(model) if how == "clone" else functional(fresh)
        other.set_weights(model.get_weights())
    assert other.layers[-1] is not layer
    equal(other(draw()), model(draw()))


@scorings
def test_exported_model_is_the_model(scoring, tmp_path):
    model = functional(make(scoring))
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    close(served.serve(draw()), model(draw()))


@scorings
@graphs
def test_graph_of_unknown_sizes_is_the_layer(scoring, how):
    layer, inputs = make(scoring), (*draw(), tf.constant(PER_QUERY))
    signature = [tf.TensorSpec([None, None, size]) for size in (5, 7, 11)]
    attend = how(lambda *x: layer(*x), input_signature=[*signature, tf.TensorSpec([None, None], tf.int64)])
    for x in (inputs, [x[:1] for x in inputs]):
        close(attend(*x), layer(*x))


@scorings
def test_pruned_layer_keeps_policy_name_and_whether_it_is_trained(scoring):
    layer = make(scoring, dropout=0.5, dtype="mixed_bfloat16", bias=True, name="reader")
    layer.trainable = False
    pruned = tf_impl.prune_heads(layer, [1])
    assert pruned.dtype_policy.name == "mixed_bfloat16"
    assert pruned.W_q.kernel.dtype == "float32"
    assert pruned.name == "reader"
    assert not pruned.trainable
    assert pruned.W_q.kernel.shape == (5, 8)
    assert layer.W_q.kernel.shape == (5, 12)
    equal(pruned.W_o.bias.numpy(), layer.W_o.bias.numpy())


@scorings
@runs
def test_importance_of_a_frozen_layer_however_the_loss_is_run(scoring, how):
    layer, inputs = make(scoring), draw()

    def loss(layer, *inputs):
        return tf.reduce_sum(layer(*inputs, LENS) ** 2)

    expected = tf_impl.head_importance(layer, loss, [inputs])
    layer.trainable = False
    close(tf_impl.head_importance(layer, how(loss), [inputs]), expected)


def test_pruned_layer_is_saved_and_loaded(tmp_path):
    layer = make(bias=True)
    pruned = tf_impl.prune_heads(layer, [0])
    model = functional(pruned)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    equal(loaded(draw()), pruned(*draw()))


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize(
    "change", [lambda dense: dense.enable_lora(2), lambda dense: dense.quantize("int8")], ids=["LoRA", "int8"]
)
def test_a_dense_layer_that_keras_has_changed_is_refused(change):
    """With LoRA its kernel is a sum that nothing can be assigned to; quantized, integers that would be taken for it."""
    layer = make(bias=True)
    before = tf_impl.export_weights(layer)
    change(layer.W_v)
    words = re.escape("/W_v: expected a plain Dense layer, got one with LoRA or quantized")
    with pytest.raises(TypeError, match=words):
        tf_impl.export_weights(layer)
    with pytest.raises(TypeError, match=words):
        tf_impl.load_weights(layer, {name: array + 1 for name, array in before.items()})
    with pytest.raises(TypeError, match=words):
        tf_impl.prune_heads(layer, [0])
    with pytest.raises(TypeError, match=words):
        tf_impl.shard(layer, keras.distribution.DeviceMesh((1,), ["heads"], ["cpu:0"]))
    equal(layer.W_q.kernel.numpy().T, before["W_q.weight"])
