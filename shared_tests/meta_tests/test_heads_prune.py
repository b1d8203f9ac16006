"""`trihead heads prune`: what it writes is the pruned layer, or it writes nothing and says why."""

import numpy as np
import pytest

from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.commands.app import main
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.layouts.files import open_weights
from shared_tests.storage import read_arrays, write_arrays
from shared_tests.tensors import encode

TRIAL = draw("bias", CASES["bias"], "float32")
"""3 heads of 4."""


@pytest.fixture
def prune(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder with IN.safetensors; gives its exit code, output and error."""
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path / "in.safetensors", TRIAL.parameters)

    def run(*options, source="in.safetensors", out="out.safetensors"):
        monkeypatch.setattr("sys.argv", ["trihead", "heads", "prune", source, out, *options])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(("option", "removed"), [("2", [1]), ("3,1", [2, 0]), ("1, 2", [0, 1])])
def test_what_is_written_is_the_pruned_layer(prune, tmp_path, option, removed):
    """Its output by each part that is left is the oracle's, and that of prune_heads."""
    code, printed, error = prune("--num-heads", "3", "--heads", option)
    assert (code, error) == (0, "")
    rest, written = TRIAL.without_heads(removed), read_arrays(tmp_path / "out.safetensors")
    subject = find("torch_impl")
    output, _ = subject.forward(subject.build(rest.config, written, "float32"), *TRIAL.inputs)
    assert within_gate(output, oracle.forward(rest)["output"]).holds
    pruned = subject.prune_heads(subject.build(TRIAL.config, TRIAL.parameters, "float32"), removed)
    for name, array in subject.export_weights(pruned).items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
    left = 4 * (3 - len(removed))
    assert f"W_o.weight: (12, 12) to (12, {left})\n" in printed
    assert f"out.safetensors: {3 - len(removed)} of 3 heads, " in printed


def test_the_new_file_says_how_many_heads_it_has(prune, tmp_path):
    """So that it can be pruned again, and converted, without being told."""
    prune("--num-heads", "3", "--heads", "1")
    assert open_weights(tmp_path / "out.safetensors").configs == {"its metadata": {"num_heads": 2}}
    assert prune("--heads", "2", source="out.safetensors", out="again.safetensors")[0] == 0
    expected = TRIAL.without_heads([0, 2]).parameters
    for name, array in read_arrays(tmp_path / "again.safetensors").items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_another_layout_at_its_place_in_a_model(prune, tmp_path):
    """Two layers of a BERT; the second is read, and keeps its dtype."""
    random = np.random.default_rng(0)
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    whole = {f"layer.{i}.{name}.weight": random.normal(size=(12, 12)) for i in (0, 1) for name in names}
    whole |= {f"layer.{i}.{name}.bias": random.normal(size=12) for i in (0, 1) for name in names}
    (tmp_path / "model.safetensors").write_bytes(encode({name: x.astype(np.float16) for name, x in whole.items()}))
    options = ["--num-heads", "4", "--heads", "2", "--from", "bert", "--prefix", "layer.1.attention"]
    assert prune(*options, source="model.safetensors")[0] == 0
    written, rows = read_arrays(tmp_path / "out.safetensors"), [0, 1, 2, *range(6, 12)]
    assert {str(array.dtype) for array in written.values()} == {"float16"}
    for name, canonical in zip(names, ("W_q", "W_k", "W_v", "W_o"), strict=True):
        before = whole[f"layer.1.{name}.weight"].astype(np.float16)
        expected = before[:, rows] if canonical == "W_o" else before[rows]
        np.testing.assert_array_equal(written[f"{canonical}.weight"], expected)


BAD = [
    (["--heads", "4", "--num-heads", "3"], "--heads: expected 1 to 3, got 4"),
    (["--heads", "1,0", "--num-heads", "3"], "--heads: expected 1 to 3, got 0"),
    (["--heads", "2,1,2", "--num-heads", "3"], "--heads: expected each head once, got 2 more than once"),
    (["--heads", "1,2,3", "--num-heads", "3"], "--heads: expected at least 1 of 3 to stay, got all"),
    (["--heads", "1.0", "--num-heads", "3"], "--heads: expected numbers with commas between, got 1.0"),
    (["--heads", "1"], "--num-heads: expected how many heads the layer has, got none, and its file does not say"),
    (["--heads", "1", "--num-heads", "5"], "heads: expected a number of heads that divides 12, got 5"),
    (["--heads", "1", "--num-heads", "3", "--from", "booook"], "layout: expected one of book, "),
    (["--heads", "1", "--num-heads", "3", "--prefix", "nowhere"], "prefix: expected "),
]


@pytest.mark.parametrize(("options", "expected"), BAD, ids=[words for _, words in BAD])
def test_bad_use_is_one_line_and_no_file(prune, tmp_path, options, expected):
    before = sorted(tmp_path.iterdir())
    code, printed, error = prune(*options)
    assert (code, printed) == (2, "")
    assert error.startswith(f"trihead: {expected}"), error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_only_safetensors_is_written(prune):
    assert prune("--heads", "1", out="out.npz")[2] == "trihead: OUT: expected a file .safetensors, got out.npz\n"


def test_several_layers_are_refused(prune, tmp_path):
    several = {f"layer.{i}.{name}": array for i in (0, 1) for name, array in TRIAL.parameters.items()}
    write_arrays(tmp_path / "two.safetensors", several)
    error = prune("--heads", "1", "--num-heads", "3", "--prefix", "layer.*", source="two.safetensors")[2]
    assert error == "trihead: --prefix: expected one layer, got 2\n"
