"""`torch_impl` over several ranks: the clauses that `torch_sharded` is asked, and what is PyTorch's own.

Functions that take `subject` run in every rank (`Spread.run`).
"""

import copy
import logging.handlers

import numpy as np
import pytest
import torch
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import torch_impl
from shared_tests.cases.case import Config, draw
from shared_tests.cases.table import CASES
from shared_tests.harness import compare, oracle
from shared_tests.harness.find import find
from shared_tests.harness.judge import judge, of_training
from shared_tests.harness.known import excuse
from shared_tests.harness.truth import Oracle
from shared_tests.subjects.torch_impl import TorchImpl

ASKED = ("eight heads", "eight heads, additive", "lengths per query", "zero lengths", "pruned")
SIZES = (8, 8, 8, 8, 4)


@pytest.fixture(scope="module")
def sharded():
    return find("torch_sharded")


def test_clauses_hold(sharded):
    report = judge(sharded, cases={name: CASES[name] for name in ASKED})
    assert not [finding for finding in excuse(report.findings) if finding.verdict.failed]
    assert all(report.cells[clause, "torch_sharded"] for clause in ("1.4", "2.1", "2.2", "3.5", "4.1", "4.2", "5.1"))


def test_training_holds(sharded):
    findings = list(of_training([sharded], Oracle(), "adam", "float64"))
    assert len(findings) > 100
    assert not [finding.verdict for finding in findings if finding.verdict.failed]


def fused(subject, trial):
    model = subject.fused(trial.config, trial.parameters, trial.dtype)
    return subject.forward_alone(model, *trial.inputs), subject.gradients(model, *trial.inputs, trial.cotangent)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_fused_holds(sharded, dtype):
    trial = draw("eight heads", CASES["eight heads"], dtype)
    stages = oracle.forward(trial)
    (output, gradients), *_ = sharded.run(__file__, "fused", trial)
    assert compare.within_gate(output, stages["output"]).holds
    for name, expected in oracle.backward(trial, stages).items():
        assert compare.within_gate(gradients[name], expected).holds, name


def by_hand(subject, trial):
    """As one would shard it who forgets that a scoring module has parameters of its own."""
    layer, dtype = TorchImpl.build(_whole(subject), trial.config, trial.parameters, trial.dtype)
    plan = dict.fromkeys(("W_q", "W_k", "W_v"), ColwiseParallel()) | {"W_o": RowwiseParallel()}
    parallelize_module(layer, subject.mesh, plan)
    layer.num_heads //= subject.mesh.size()
    model = layer, dtype
    return subject.forward_alone(model, *trial.inputs), subject.gradients(model, *trial.inputs, trial.cotangent)


def _whole(subject):
    whole = copy.copy(subject)
    whole.blank = lambda *arguments: TorchImpl.blank(subject, *arguments)
    return whole


def test_gradients_that_are_not_shared_are_seen(sharded):
    """The output is right all the same, and every other gradient."""
    trial = draw("eight heads, additive", CASES["eight heads, additive"], "float64")
    (output, gradients), *_ = sharded.run(__file__, "by_hand", trial)
    stages = oracle.forward(trial)
    assert compare.within_gate(output, stages["output"]).holds
    for name, expected in oracle.backward(trial, stages).items():
        assert compare.within_gate(gradients[name], expected).holds == (not name.startswith("attention")), name


def collectives(subject, module, need_weights):
    layer = subject.make("MultiHeadAttention", *SIZES, 0.0, attention=_scoring(subject, module))
    sharded, x = torch_impl.shard(layer, subject.mesh), torch.ones(2, 3, 8, requires_grad=True)
    with CommDebugMode() as forward:
        result = sharded(x, x, x, need_weights=need_weights)
    with CommDebugMode() as backward:
        (result[0] if need_weights else result).sum().backward()
    for tensor in (x, *sharded.parameters()):
        assert subject.backend.array(tensor.grad).size  # a collective that nobody waits for is a warning in the end
    return [{str(name): n for name, n in mode.get_comm_counts().items()} for mode in (forward, backward)]


def _scoring(subject, module):
    return subject.make(module, *((2, 2, 5) if module == "AdditiveAttention" else ()), 0.0)


@pytest.mark.parametrize(
    ("module", "need_weights", "backward"),
    [
        ("DotProductAttention", False, 3),
        ("DotProductAttention", True, 3),
        ("FusedDotProductAttention", False, 3),
        ("AdditiveAttention", True, 6),
    ],
)
def test_one_all_reduce_forward(sharded, module, need_weights, backward):
    """Backward, one for each of queries, keys and values, and one for each parameter of the scoring module."""
    for counts in sharded.run(__file__, "collectives", module, need_weights):
        assert [list(found.values()) for found in counts] == [[1], [backward]]
        assert all("all_reduce" in name for found in counts for name in found)


def born_in_parts(subject, trial):
    scoring = trial.config.scoring
    attention = torch_impl.AdditiveAttention(**scoring.sizes(trial.config.head_dim), dropout=0.0, device="meta")
    layer = torch_impl.MultiHeadAttention(**trial.config, dropout=0.0, attention=attention, device="meta")
    sharded = torch_impl.shard(layer, subject.mesh)
    assert all(parameter.is_meta for parameter in (*layer.parameters(), *sharded.parameters()))
    sharded.to_empty(device="cpu")
    torch_impl.load_weights(sharded, trial.parameters)
    exported = torch_impl.export_weights(sharded)
    assert all((exported[name] == array).all() for name, array in trial.parameters.items())
    held = {name: tuple(p.to_local().shape) for name, p in sharded.named_parameters()}
    return subject.forward_alone((sharded.eval(), trial.dtype), *trial.inputs), held


def test_a_layer_is_born_in_parts(sharded):
    """From the device "meta": no rank ever holds more than its own heads, and what is not cut."""
    trial = draw("eight heads, additive", CASES["eight heads, additive"], "float32")
    for output, held in sharded.run(__file__, "born_in_parts", trial):
        assert compare.within_gate(output, oracle.forward(trial)["output"]).holds
        assert (held["W_q.weight"], held["W_o.weight"]) == ((12, 5), (24, 12))
        assert (held["W_v.bias"], held["W_o.bias"], held["attention.W_q.weight"]) == ((12,), (24,), (17, 3))


def dropped(subject, config, weights, x):
    torch.manual_seed(0)  # the same in all ranks
    layer, _ = subject.build(config, weights, "float32", "", 0.5)
    output = subject.training(layer)(*[subject.backend.tensor(x, "float32")] * 3)
    return subject.backend.array(output), torch.get_rng_state().numpy()


def test_heads_of_two_ranks_do_not_drop_alike(sharded):
    """Four heads of the same parameters, and W_o the identity: each drops otherwise, and the ranks stay in step."""
    random = np.random.default_rng(0)
    weights = {f"W_{x}.weight": np.tile(random.normal(size=(2, 8)), (4, 1)) for x in "qkv"} | {"W_o.weight": np.eye(8)}
    x = random.normal(size=(2, 5, 8))
    (output, state), (of_other, state_of_other) = sharded.run(__file__, "dropped", Config(*SIZES), weights, x)
    heads = output.reshape(2, 5, 4, 2)
    assert all((heads[:, :, i] != heads[:, :, j]).any() for i in range(4) for j in range(i))
    np.testing.assert_array_equal(output, of_other)
    np.testing.assert_array_equal(state, state_of_other)


def compiled_in_training(subject):
    """What a layer that drops gives eagerly and compiled, from one seed; its warnings; and what comes of one graph."""
    sharded, x = torch_impl.shard(subject.make("MultiHeadAttention", *SIZES, 0.5), subject.mesh), torch.ones(2, 3, 8)
    sharded.train()
    try:
        torch.compile(sharded, backend="aot_eager", fullgraph=True)(x, x, x)
    except Exception as error:
        refused = type(error).__name__
    torch.compiler.reset()  # here and below: what one has compiled, or refused, is in the way of the next
    outputs, warned = [], logging.handlers.BufferingHandler(99)
    logging.getLogger("torch._dynamo").addHandler(warned)
    for call in (sharded, torch.compile(sharded, backend="aot_eager")):
        torch.manual_seed(0)
        outputs.append(subject.backend.array(call(x, x, x)))
    logging.getLogger("torch._dynamo").removeHandler(warned)
    torch.compiler.reset()
    return outputs, [record.getMessage() for record in warned.buffer], refused


def test_dropout_breaks_the_graph(sharded, page):
    """Without a warning; and ranks drop as they do eagerly."""
    for (eager, compiled), warned, error in sharded.run(__file__, "compiled_in_training"):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)
        assert not warned
        assert f"`fullgraph=True` raises `{error}`" in page


def refused(subject):
    layer = subject.make("MultiHeadAttention", *SIZES, 0.0)
    before = torch_impl.export_weights(layer)
    sharded, x = torch_impl.shard(layer, subject.mesh), torch.ones(1, 2, 8)
    torch_impl.load_weights(sharded, {name: array + 1 for name, array in before.items()})
    assert all((torch_impl.export_weights(layer)[name] == array).all() for name, array in before.items())
    assert sharded.num_heads == 4
    assert copy.deepcopy(sharded)(x, x, x).equal(sharded(x, x, x))
    assert torch.compile(sharded, fullgraph=True)(x, x, x).allclose(sharded(x, x, x))
    calls = (
        lambda: torch_impl.shard(sharded, subject.mesh),
        lambda: torch_impl.prune_heads(sharded, [0]),
        lambda: torch_impl.head_importance(sharded, lambda layer, x: layer(x, x, x).sum(), [(x,)]),
        lambda: sharded(x, x, x, 2),
        lambda: sharded(x, x, x, [2]),
        lambda: torch_impl.load_weights(sharded, before | {"W_q.bias": np.ones(8)}),
    )
    return [_words(call) for call in calls]


def _words(call):
    try:
        return call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


SHARDED_ALREADY = "TypeError: layer: expected a MultiHeadAttention that is not sharded, got ShardedMultiHeadAttention"


def test_what_a_sharded_layer_refuses(sharded):
    """And the layer that was given stays as it was; a copy and a compiled one give the same."""
    for words in sharded.run(__file__, "refused"):
        assert words == [SHARDED_ALREADY] * 3 + [
            "TypeError: valid_lens: expected an array, got int",
            "TypeError: valid_lens: expected an array, got list",
            "ValueError: weights: W_q.bias: unexpected",
        ]
