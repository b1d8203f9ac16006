"""What is PyTorch's own: hooks, transforms, compilers and copies leave an attention layer what it is."""

import copy
import pickle
import re
from functools import partial

import pytest

torch = pytest.importorskip("torch")
forward_ad = pytest.importorskip("torch.autograd.forward_ad")
torch_impl = pytest.importorskip("torch_impl")

F = torch.nn.functional
LENS = torch.tensor([2, 4])
SCORING = {
    "dot product": torch_impl.DotProductAttention,
    "additive": partial(torch_impl.AdditiveAttention, 4, 4, 13),
    "fused": torch_impl.FusedDotProductAttention,
}
pytestmark = [  # PyTorch's own, of its kernel under vmap and of what its jvp loads
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]
scorings = pytest.mark.parametrize("scoring", SCORING)
close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
equal = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    """Code that raised while it was traced, as a refusal does, is never traced again in the same process."""
    torch.compiler.reset()


def make(scoring="dot product", dropout=0.0, num_hiddens=12, **options):
    torch.manual_seed(0)
    attention = SCORING[scoring](dropout)
    return torch_impl.MultiHeadAttention(7, 5, 11, num_hiddens, 3, dropout, attention=attention, **options)


def draw(*batch, queries=5, keys=7, values=11, **options):
    """Queries, keys and values, of 3 queries and 4 keys."""
    random = torch.Generator().manual_seed(1)
    sizes = (*batch, 3, queries), (*batch, 4, keys), (*batch, 4, values)
    return [torch.randn(size, generator=random, **options) for size in sizes]


def gradients(layer):
    """Those of inputs and parameters, of the sum of squares of the output."""
    inputs = draw(2, requires_grad=True)
    return torch.autograd.grad(layer(*inputs, LENS).square().sum(), [*inputs, *layer.parameters()])


class Sigmoid(torch_impl.DotProductAttention):
    def score(self, queries, keys):
        return torch.sigmoid(super().score(queries, keys))


class Table(torch_impl.DotProductAttention):
    def __init__(self, dropout):
        super().__init__(dropout)
        self.register_buffer("table", torch.arange(24.0).reshape(2, 3, 4))

    def score(self, queries, keys):
        return self.table


class Empty(torch_impl.DotProductAttention):
    """Its truth value is False."""

    def __len__(self):
        return 0


def test_score_that_ends_in_a_sigmoid_has_a_gradient():
    inputs = draw(2, queries=5, keys=5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: Sigmoid(0.0)(*x, LENS), inputs)


def test_score_that_keeps_a_table_is_not_written_to():
    attention = Table(0.0)
    before = attention.table.clone()
    _, weights = attention(*draw(2, keys=5), LENS, need_weights=True)
    equal(attention.table, before)
    equal(weights, torch_impl.masked_softmax(before, LENS))


@pytest.mark.parametrize("lens", [None, LENS], ids=["no mask", "lengths"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_attention_weights_take_the_memory_of_the_scores(monkeypatch, dtype, lens):
    """Where no gradient is wanted, and the softmax needs no wider dtype. The bits are the same."""
    attention, inputs, made = torch_impl.DotProductAttention(0.0), draw(2, keys=5, dtype=dtype), []
    score = torch_impl.DotProductAttention.score
    monkeypatch.setattr(torch_impl.DotProductAttention, "score", lambda *x: made.append(score(*x)) or made[-1])
    _, weights = attention(*inputs, lens, need_weights=True)
    _, apart = attention(*(x.clone().requires_grad_() for x in inputs), lens, need_weights=True)
    equal(weights, apart.detach())
    assert (weights.data_ptr() == made[0].data_ptr()) == (dtype != torch.bfloat16)
    assert apart.data_ptr() != made[1].data_ptr()
    equal(made[1].detach(), score(attention, *inputs[:2]))


@pytest.mark.parametrize("lens", [None, LENS], ids=["no mask", "lengths"])
def test_masked_softmax_writes_where_it_is_told(lens):
    scores, other = draw(2)[0], torch.empty(2, 3, 5)
    given = scores.clone()
    expected = torch_impl.masked_softmax(scores, lens)
    equal(scores, given)
    for out in (other, scores):
        weights = torch_impl.masked_softmax(scores, lens, out=out)
        assert weights.data_ptr() == out.data_ptr()
        equal(weights, expected)


@pytest.mark.parametrize("name", ["dot product", "additive"])
def test_forward_mode_goes_through_the_layer(name):
    """Without torch.func: a tangent that a softmax in place would refuse; none is kept."""
    layer, inputs = make(name).requires_grad_(False), draw(2)
    tangents = [torch.ones_like(x) for x in inputs]
    with forward_ad.dual_level():
        output = layer(*map(forward_ad.make_dual, inputs, tangents), LENS)
        _, tangent = forward_ad.unpack_dual(output)
    _, expected = torch.func.jvp(lambda *x: layer(*x, LENS), tuple(inputs), tuple(tangents))
    close(tangent, expected)
    assert layer.attention.attention_weights is None


@scorings
def test_full_backward_hooks_change_no_gradient(scoring):
    layer, seen = make(scoring), []
    expected = gradients(layer)
    for module in layer.modules():
        module.register_full_backward_hook(lambda module, *_: seen.append(module))
    equal(gradients(layer), expected)
    assert {layer, layer.attention, layer.W_q, layer.W_o} <= {*seen}


@pytest.mark.parametrize("first_called", [False, True])
@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_transforms_leave_no_wrapped_weights(transform, first_called):
    layer, (q, k, v) = make(), draw(2)
    if first_called:
        layer(q, k, v)
    before = layer.attention.attention_weights
    if transform == "vmap":
        torch.func.vmap(layer)(q[None], k[None], v[None])
    elif transform == "grad":
        torch.func.grad(lambda q: layer(q, k, v).sum())(q)
    else:
        torch.func.jvp(lambda q: layer(q, k, v), (q,), (q,))
    after = layer.attention.attention_weights
    assert after is None or after is before


def test_kernel_that_is_patched_is_the_one_that_runs(monkeypatch):
    seen, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *x, **o: seen.append(x) or kernel(*x, **o))
    make("fused")(*draw(2), LENS)
    assert len(seen) == 1


@pytest.mark.parametrize("dropouts", [(0.1, 0.0), (0.0, 0.1)])
def test_two_dropouts_are_refused(dropouts):
    ours, its = dropouts
    words = f"attention: expected dropout {ours}, as the layer's, got {its}"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        torch_impl.MultiHeadAttention(7, 5, 11, 12, 3, ours, attention=torch_impl.FusedDotProductAttention(its))


def test_scoring_module_whose_truth_value_is_false_is_used():
    attention = Empty(0.0)
    assert torch_impl.MultiHeadAttention(7, 5, 11, 12, 3, 0.0, attention=attention).attention is attention


@pytest.mark.parametrize("lens", [LENS, torch.tensor([[1, 2, 3], [4, 3, 0]])], ids=["lengths", "per query"])
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_lengths_may_be_a_numpy_array(how, lens):
    layers = {name: make(name) for name in SCORING}
    q, k, v = inputs = draw(2)

    def attend(lens):
        outputs = [layer(*inputs, lens) for layer in layers.values()]
        alone = [layer.attention(q[..., :4], k[..., :4], v, lens) for layer in layers.values()]
        return [torch_impl.masked_softmax(q @ k[..., :5].mT, lens), *outputs, *alone]

    run = attend if how == "eager" else torch.compile(attend, fullgraph=True, backend="aot_eager")
    close(run(lens.numpy()), attend(lens))


def test_head_dim_sets_the_width_of_the_heads():
    layer = make("additive", num_hiddens=10, head_dim=4, bias=True)
    widths = [tuple(linear.weight.shape) for linear in (layer.W_q, layer.W_k, layer.W_v, layer.W_o)]
    assert widths == [(12, 5), (12, 7), (12, 11), (10, 12)]
    output, weights = layer(*draw(2), LENS, need_weights=True)
    assert (output.shape, weights.shape) == ((2, 3, 10), (2, 3, 3, 4))
    assert torch_impl.export_weights(layer)["W_o.weight"].shape == (10, 12)
    equal(make(head_dim=4)(*draw(2), LENS), make()(*draw(2), LENS))


def test_repr_tells_the_sizes():
    for size in ("key_size=7", "query_size=5", "value_size=11", "num_hiddens=12", "num_heads=3", "head_dim=4"):
        assert size in repr(make())
    for size in ("key_size=4", "query_size=6", "num_hiddens=13"):
        assert size in repr(torch_impl.AdditiveAttention(4, 6, 13, 0.0))


@scorings
def test_autocast_is_near_and_leaves_gradients_wide(scoring):
    """bfloat16 has 8 bits: some roundings of 1/256 on numbers below 1."""
    layer = make(scoring)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(*draw(2), LENS)
        narrow = gradients(layer)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), layer(*draw(2), LENS), rtol=0, atol=0.02)
    for got, wanted in zip(narrow, gradients(layer), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0.05 * wanted.abs().max().item())


@scorings
@pytest.mark.parametrize(
    "axes", [(0, 0, 0, None), (0, 0, 0, 0), (None, None, None, 0)], ids=["inputs", "all", "lengths"]
)
def test_vmap_is_a_loop(scoring, axes):
    layer, lens = make(scoring), torch.tensor([[1, 2], [3, 4], [4, 0]])
    inputs = [*draw(*[3] * (axes[0] == 0), 2), lens if axes[3] == 0 else LENS]
    looped = [layer(*(x if axis is None else x[i] for x, axis in zip(inputs, axes, strict=True))) for i in range(3)]
    close(torch.func.vmap(layer, in_dims=axes)(*inputs), torch.stack(looped))


@scorings
def test_gradients_per_example_are_a_loop(scoring):
    layer, inputs = make(scoring), [*draw(3), torch.tensor([1, 3, 4])]
    parameters = dict(layer.named_parameters())

    def loss(parameters, *example):
        return torch.func.functional_call(layer, parameters, tuple(x[None] for x in example)).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0, 0))(parameters, *inputs)
    for i in range(3):
        wanted = torch.autograd.grad(loss(parameters, *(x[i] for x in inputs)), [*layer.parameters()])
        close([x[i] for x in got.values()], [*wanted], rtol=1e-5)


@pytest.mark.parametrize("scoring", ["dot product", "additive"])
def test_jvp_is_the_transpose_of_vjp(scoring):
    layer, inputs, tangents = make(scoring), tuple(draw(2)), tuple(x.cos() for x in draw(2))
    output, forward = torch.func.jvp(lambda *x: layer(*x, LENS), inputs, tangents)
    _, pull = torch.func.vjp(lambda *x: layer(*x, LENS), *inputs)
    backward = sum((x * t).sum() for x, t in zip(pull(output), tangents, strict=True))
    close((output * forward).sum(), backward, rtol=1e-5)


@scorings
def test_compiled_gradients_are_the_eager_ones(scoring):
    layer = make(scoring)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    close(gradients(compiled), gradients(layer), rtol=1e-5)


@scorings
def test_exported_layer_is_the_layer(scoring):
    layer, inputs = make(scoring).eval(), (*draw(2), LENS)
    equal(torch.export.export(layer, inputs).module()(*inputs), layer(*inputs))
    assert scoring == "fused" or not layer.attention.attention_weights.requires_grad


@scorings
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("lengths", [None, LENS, LENS[:, None].expand(2, 3), LENS.numpy()], ids=["", "1", "2", "numpy"])
def test_layer_makes_everything_on_the_device_of_its_inputs(scoring, dropout, lengths):
    """Here that is the device "meta", whose tensors no operation takes together with a CPU's, as it is on a GPU."""
    with torch.device("meta"):  # left again before the call, which must see to it by itself
        layer = make(scoring, dropout, bias=True)
    layer = torch_impl.prune_heads(layer, [1]).train()
    inputs = [x.to("meta").requires_grad_() for x in draw(2)]
    lengths = lengths.to("meta") if isinstance(lengths, torch.Tensor) else lengths
    output = layer(*inputs, lengths)
    found = torch.autograd.grad(output.sum(), [*inputs, *layer.parameters()])
    with torch.no_grad():  # where mask and softmax are written over the scores
        alone = layer.eval()(*inputs, lengths)
    assert {x.device.type for x in (output, alone, *found)} == {"meta"}


def pickled(layer):
    return pickle.loads(pickle.dumps(layer))


def loaded(layer):
    """A fresh layer of the same parameters: the attention weights that `layer` keeps are no part of its state."""
    with torch.device("meta"):
        other = torch_impl.MultiHeadAttention(7, 5, 11, 12, 3, 0.0, attention=copy.deepcopy(layer.attention))
    other.load_state_dict(layer.state_dict(), strict=True, assign=True)
    return copy.deepcopy(other)


@scorings
@pytest.mark.parametrize("how", [copy.deepcopy, pickled, loaded])
def test_copy_of_a_layer_that_was_called_is_its_own(scoring, how):
    layer = make(scoring)
    output = layer(*draw(2), LENS)
    other = how(layer)
    equal(other(*draw(2), LENS), output)
    torch.nn.init.zeros_(other.W_q.weight)
    equal(layer(*draw(2), LENS), output)


@scorings
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_draws_the_same_mask_again(scoring, reentrant):
    """With dropout: the backward pass computes everything anew."""
    layer = make(scoring, 0.5).train()
    inputs, found = draw(2, requires_grad=True), []
    for call in (layer, partial(torch.utils.checkpoint.checkpoint, layer, use_reentrant=reentrant)):
        torch.manual_seed(2)
        call(*inputs, LENS).square().sum().backward()
        found.append([x.grad.clone() for x in (*inputs, *layer.parameters())])
        layer.zero_grad()
        for x in inputs:
            x.grad = None
    equal(*found)


@scorings
def test_pruned_layer_keeps_mode_frozen_parameters_and_hooks(scoring):
    layer, calls = make(scoring, dropout=0.5, bias=True).train(), []
    layer.W_k.weight.requires_grad_(False)
    layer.W_v.bias.requires_grad_(False)
    layer.register_forward_hook(lambda *_: calls.append(1))
    pruned = torch_impl.prune_heads(layer, [1])
    assert pruned.training
    assert pruned.attention.training
    frozen = [name for name, parameter in pruned.named_parameters() if not parameter.requires_grad]
    assert frozen == ["W_k.weight", "W_v.bias"]
    assert all(parameter.is_leaf for parameter in pruned.parameters())
    pruned(*draw(2), LENS)
    assert calls == [1]
    assert (pruned.W_q.out_features, pruned.W_o.in_features) == (8, 8)
    assert layer.W_q.weight.shape == (12, 5)
    before = [parameter.clone() for parameter in layer.parameters()]
    torch.optim.SGD(pruned.parameters(), 1.0).step(lambda: pruned(*draw(2), LENS).sum().backward())
    equal([*layer.parameters()], before)


@scorings
def test_importance_of_a_frozen_layer_without_gradients_around(scoring):
    """A model in use: nothing requires a gradient, and none are recorded; neither does afterwards."""
    layer, inputs = make(scoring), draw(2)

    def loss(layer, *inputs):
        return layer(*inputs, LENS).square().sum()

    expected = torch_impl.head_importance(layer, loss, [inputs])
    assert all(parameter.grad is None for parameter in layer.parameters())
    layer.requires_grad_(False)
    with torch.no_grad():
        found = torch_impl.head_importance(layer, loss, [inputs])
        with pytest.raises(ZeroDivisionError):
            torch_impl.head_importance(layer, lambda *_: 1 / 0, [inputs])
    assert (found == expected).all()
    assert not layer.W_o.weight.requires_grad


def test_importance_of_a_layer_that_a_model_calls_twice():
    """One gate on both calls: the loss is that of the whole model, which need not take the layer it is given."""
    layer, (x, _, _) = torch_impl.MultiHeadAttention(12, 12, 12, 12, 3, 0.0), draw(2, queries=12)
    model = torch.nn.Sequential(twice := Twice(layer), torch.nn.Linear(12, 1)).double()
    x, step = x.double(), 1e-6
    found = torch_impl.head_importance(twice.layer, lambda _, x: model(x).sum(), [(x,)])
    with torch.no_grad():
        for head in range(3):
            losses = []
            for sign in (1, -1):
                gated = copy.deepcopy(model)
                gated[0].layer.W_o.weight[:, 4 * head : 4 * head + 4] *= 1 + sign * step
                losses.append(gated(x).sum())
            assert abs(abs(losses[0] - losses[1]).item() / (2 * step) - found[head]) < 1e-7


class Twice(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = self.layer(x, x, x)
        return self.layer(x, x, x)
