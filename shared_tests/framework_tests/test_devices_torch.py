"""docs/devices.md in PyTorch: what is shown holds and sends what the page says; and what does not work does not.

Functions that take `subject` run in every rank (`Spread.run`).
"""

import contextlib
import logging
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.experimental import context_parallel, implicit_replication
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import torch_impl
from shared_tests.harness.find import find
from shared_tests.subjects.torch_impl import TorchImpl
from shared_tests.subjects.torch_sharded import TorchSharded

WAYS = {
    "The batch, DDP": ("The batch", 0, 0, "ranks"),
    "The batch, FSDP2": ("The batch", 1, 0, "ranks"),
    "The heads": ("The heads", 0, None, "ranks"),
    "The heads and the batch": ("The heads and the batch", 0, 0, "four_ranks"),
    "The length": ("The length", 0, 1, "ranks"),
}
"""Row of the page's table -> heading, which of its blocks, the axis that it cuts in two (None: none), and by whom."""
INPUTS = "queries", "keys", "values"
KINDS = {"allreduce": "all-reduce", "allgather": "all-gather", "reducescatter": "reduce-scatter"}


class FourRanks(TorchSharded):
    """For a mesh of two axes."""

    processes = 4


@pytest.fixture(scope="module")
def ranks():
    return find("torch_sharded")


@pytest.fixture(scope="module")
def four_ranks():
    return FourRanks()


def stepped(subject, code, trial):
    """What a rank has of a block: its output, its gradients, what was sent from the call to the loss, and in all."""
    tensor, array = subject.backend.tensor, subject.backend.array
    layer, dtype = TorchImpl().build(trial.config, trial.parameters, trial.dtype)
    inputs = [tensor(getattr(trial, x), dtype).requires_grad_() for x in INPUTS]
    sent = []

    def loss(output, target):
        sent.append(_sent(counter))
        return (output * target).sum(-1).mean()

    names = {"layer": layer, "inputs": inputs, "valid_lens": tensor(trial.valid_lens, dtype), "loss": loss}
    names["target"] = tensor(trial.cotangent, dtype)
    made, call = code.split("\noutput = ")
    exec(made, names)  # DDP sends parameters once, when it is made
    with CommDebugMode() as counter:
        exec(f"output = {call}", names)
    sent.append(_sent(counter))
    parameters = names.get("sharded", layer).named_parameters()
    gradients = {name: array(parameter.grad) for name, parameter in parameters}
    return array(names["output"]), gradients, [array(x.grad) for x in inputs], sent


def _sent(counter):
    counts = dict.fromkeys(KINDS.values(), 0)
    for name, times in counter.get_comm_counts().items():
        (kind,) = (kind for kind in KINDS if kind in str(name).replace("_", ""))
        counts[KINDS[kind]] += times
    return counts


@pytest.mark.filterwarnings("ignore:.*returned a view tensor:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_block_holds_and_sends_what_the_page_says(request, blocks, trial, holds, sends, way):
    heading, number, axis, ranks = WAYS[way]
    (setup,), code = blocks("torch", "What the blocks are given"), blocks("torch", heading)[number]
    answers = request.getfixturevalue(ranks).run(__file__, "stepped", setup + code, trial)
    answers = answers[:: len(answers) // 2]  # one of the ranks that have the same part
    outputs, (gradients, _), of_inputs, (sent, _) = zip(*answers, strict=True)
    output = outputs[0] if axis is None else np.concatenate(outputs, axis)
    # An input's gradient is of the rank's own loss, of which the loss of all is the mean.
    of_inputs = of_inputs[0] if axis is None else [sum(found) / len(found) for found in zip(*of_inputs, strict=True)]
    holds(trial, output, gradients | dict(zip(INPUTS, of_inputs, strict=True)))
    sends(f"{way}, PyTorch", *sent)


def test_every_block_is_run(blocks):
    run = [blocks("torch", heading)[number] for heading, number, _, _ in WAYS.values()]
    run += blocks("torch", "What the blocks are given") + blocks("torch", "More than one host")
    assert sorted(run) == sorted(blocks("torch"))


def test_it_reaches_two_hosts(on_two_hosts, blocks):
    printed = "".join(on_two_hosts("torch", OMP_NUM_THREADS="1"))  # of a host's two processes either may be the first
    assert sorted(printed.splitlines()) == blocks("torch", "More than one host", "text")[0].splitlines()


# What does not work

X = torch.arange(192.0).reshape(2, 8, 12).sin()
CAUSAL = torch.arange(1, 9).expand(2, -1)


def _layer(num_heads=4, attention=None):
    torch.manual_seed(0)
    return torch_impl.MultiHeadAttention(12, 12, 12, 12, num_heads, 0.0, attention=attention)


def _apart(output, whole):
    return float((output - whole).detach().abs().max())


def _words(call):
    try:
        return call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def in_context_parallel(subject, fused):
    """How far the output is from the whole layer's, what was sent, and what valid lengths and a gradient make."""
    logging.getLogger("torch._subclasses.fake_tensor").disabled = True  # it tells of each error at length
    layer = _layer(attention=torch_impl.FusedDotProductAttention(0.0) if fused else None)

    def attend(valid_lens=None):
        buffers = [X.clone(), *([] if valid_lens is None else [valid_lens.clone()])]
        with context_parallel(subject.mesh, buffers=buffers, buffer_seq_dims=[1] * len(buffers)):
            output = layer(*buffers[:1] * 3, *buffers[1:])
            return output.sum().backward() if torch.is_grad_enabled() else output

    def part(whole):  # a rank has a part from the front and one from the back, so that causal ones have as much to do
        quarters, rank = whole.chunk(4, dim=1), subject.mesh.get_local_rank()
        return torch.cat([quarters[rank], quarters[3 - rank]], dim=1)

    with torch.no_grad():
        with CommDebugMode() as counter:
            output = attend()
        apart = _apart(output, part(layer(X, X, X)))
        with_lengths = _words(lambda: _apart(attend(CAUSAL), part(layer(X, X, X, CAUSAL))))
    return apart, _sent(counter), with_lengths, _words(attend)


def test_context_parallel_passes_by_dot_product_attention(ranks, in_words):
    """Each rank attends to its own part of the keys, and nothing says so."""
    for apart, sent, with_lengths, backward in ranks.run(__file__, "in_context_parallel", False):
        assert min(apart, with_lengths) > 0.1
        assert in_words(sent) == "nothing"
        assert backward is None


def test_context_parallel_of_fused_attention_takes_no_lengths_and_on_cpus_has_no_gradient(ranks, page, in_words):
    for apart, sent, *errors in ranks.run(__file__, "in_context_parallel", True):
        assert apart < 1e-6
        assert in_words(sent) == "2 all-gathers"
        for error in errors:
            assert error.split("\n")[0] in page


def kept_global(subject, replicated):
    """Projections stay `DTensor`s: how far output and gradients are off, by where backward is called."""
    layer, whole = _layer(), _layer()
    of_output = ColwiseParallel(use_local_output=False)
    parallelize_module(
        layer, subject.mesh, dict.fromkeys(("W_q", "W_k", "W_v"), of_output) | {"W_o": RowwiseParallel()}
    )
    whole(X, X, X, CAUSAL).sum().backward()
    within = implicit_replication if replicated else contextlib.nullcontext

    def attend(backward_within):
        with within():
            output = layer(X, X, X, CAUSAL)
            if backward_within:
                output.sum().backward()
        if not backward_within:
            output.sum().backward()
        with within(), torch.no_grad():
            evaluated = layer(X, X, X, CAUSAL)
        found, expected = layer.W_q.weight.grad.full_tensor(), whole(X, X, X, CAUSAL)
        return max(_apart(output, expected), _apart(evaluated, expected), _apart(found, whole.W_q.weight.grad))

    return _words(lambda: attend(True)), _words(lambda: attend(False))


def test_a_global_dtensor_with_lengths(ranks, page):
    """Fails, unless both directions are within `implicit_replication()`."""
    for error, after in ranks.run(__file__, "kept_global", False):
        assert error == after
        assert error in page
    for within, after in ranks.run(__file__, "kept_global", True):
        assert within < 1e-6
        assert after == error


def data_parallel(subject):
    return _words(lambda: DistributedDataParallel(torch_impl.shard(_layer(), subject.mesh)))


def test_ddp_of_a_sharded_layer(ranks, page):
    for error in ranks.run(__file__, "data_parallel"):
        assert error in page


def exported_and_loaded(subject):
    """Whether a layer on two axes is exported whole; how far it is off another one that was loaded, and was before."""
    both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "heads"))
    layer, other = _layer(), _layer()
    torch.manual_seed(1)
    other.apply(lambda module: module.reset_parameters() if isinstance(module, torch.nn.Linear) else None)
    sharded = fully_shard(torch_impl.shard(layer, both["heads"]), mesh=both["batch"])
    expected, exported = torch_impl.export_weights(layer), torch_impl.export_weights(sharded)
    torch_impl.load_weights(sharded, torch_impl.export_weights(other))
    same = all((exported[name] == array).all() for name, array in expected.items())
    return same, _apart(sharded(X, X, X), other(X, X, X)), _apart(layer(X, X, X), other(X, X, X))


@pytest.mark.filterwarnings("ignore:.*returned a view tensor:UserWarning")
def test_heads_and_batch_are_exported_and_loaded_whole(four_ranks):
    for same, loaded, before in four_ranks.run(__file__, "exported_and_loaded"):
        assert same
        assert loaded < 1e-6 < before


def dropped(subject, by_batch):
    """What a rank's layer gives in training for the same sequences as all others', and its place in the batch."""
    both = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "heads"))
    torch.manual_seed(0)
    layer = torch_impl.MultiHeadAttention(12, 12, 12, 12, 4, 0.5)
    sharded = fully_shard(torch_impl.shard(layer, both["heads"]), mesh=both["batch"])
    torch.manual_seed(both["batch"].get_local_rank() if by_batch else 0)
    return both["batch"].get_local_rank(), sharded(X, X, X).detach().numpy()


@pytest.mark.filterwarnings("ignore:.*returned a view tensor:UserWarning")
def test_ranks_of_other_sequences_drop_as_they_are_seeded(four_ranks):
    for by_batch in (False, True):
        for (place, output), (other_place, other) in combinations(four_ranks.run(__file__, "dropped", by_batch), 2):
            assert (output == other).all() == (place == other_place or not by_batch)


def of_three_heads(subject):
    layer = _layer(num_heads=3)
    whole = layer(X, X, X)
    plan = dict.fromkeys(("W_q", "W_k", "W_v"), ColwiseParallel()) | {"W_o": RowwiseParallel()}
    parallelize_module(layer, subject.mesh, plan)
    layer.num_heads //= subject.mesh.size()
    output = layer(X, X, X)
    return output.shape == whole.shape, _apart(output, whole), _words(lambda: torch_impl.shard(_layer(3), subject.mesh))


def test_three_heads_on_two_devices_by_hand(ranks):
    """Each device takes its half of the columns for one head. `shard` refuses."""
    for same_shape, apart, refused in ranks.run(__file__, "of_three_heads"):
        assert same_shape
        assert apart > 0.05
        assert refused == "ValueError: num_heads: expected a multiple of 2 devices, got 3"
