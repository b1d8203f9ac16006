"""Layouts and files of PyTorch: its own layers answer as ours, and its files are read without running anything."""

import io
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from shared_tests import layouts
from shared_tests.commands.app import main
from shared_tests.faults.broken_files import cut, edited, outcome
from shared_tests.layouts.files import open_weights
from shared_tests.subjects._layers_torch import Multihead


def test_a_check_of_the_command(tmp_path, monkeypatch, capsys):
    """From a file of torch into torch's own layer, which runs; with its third wrong, exit code 1."""
    torch.save(nn.MultiheadAttention(12, 3).state_dict(), tmp_path / "x.pt")
    command = ["trihead", "convert", str(tmp_path / "x.pt"), str(tmp_path / "out.safetensors"), "--to", "torch"]
    monkeypatch.setattr("sys.argv", [*command, "--num-heads", "3", "--check"])
    for expected in (0, 1):
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == expected
        said = capsys.readouterr().out
        assert re.search(r"check torch: \d+\.\d\dσ of 96", said)
        assert ("96 off, worst at" in said) == bool(expected)
        monkeypatch.setattr(Multihead, "call", lambda self, layer, *inputs: 2 * layer(*inputs)[0])


def test_a_state_dict_as_it_is():
    """Tensors, too, are arrays."""
    layer = nn.MultiheadAttention(4, 2)
    weights = layouts.from_("torch", layer.state_dict())
    np.testing.assert_array_equal(weights["W_k.weight"], layer.in_proj_weight[4:8].detach().numpy())


def saved(found, **options):
    stream = io.BytesIO()
    torch.save(found, stream, **options)
    return stream.getvalue()


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}
KINDS = {"zip": {}, "old": {"_use_new_zipfile_serialization": False}, "protocol 4": {"pickle_protocol": 4}}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_torch(tmp_path, kind):
    """Views, parameters, nested dicts and all dtypes; numbers beside tensors are left alone."""
    base = torch.arange(24.0).reshape(4, 6)
    found = {
        "model": {
            "view": base[1:3, ::2],
            "turned": base.T,
            "parameter": nn.Parameter(torch.ones(2, 2)),
            "0": torch.tensor(3),
        },
        "half": torch.tensor([-0.0, 1.5], dtype=torch.float16),
        "brain": torch.tensor([-0.0, 1.5, 3e38], dtype=torch.bfloat16),
        "double": torch.tensor([5e-324], dtype=torch.float64),
        "optimizer": {"lr": 0.1, "betas": (0.9, 0.99), "steps": [torch.tensor([1])], "name": "adam", "none": None},
        "epoch": 3,
        "module": nn.MultiheadAttention(4, 2).state_dict(),
    }
    (tmp_path / "x.pt").write_bytes(saved(found, **KINDS[kind]))
    arrays = open_weights(tmp_path / "x.pt").arrays
    np.testing.assert_array_equal(arrays["model.view"], base[1:3, ::2].numpy())
    np.testing.assert_array_equal(arrays["model.turned"], base.T.numpy())
    np.testing.assert_array_equal(arrays["half"].view(np.uint16), [0x8000, 0x3E00])
    expected = found["brain"].view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(arrays["brain"]["bfloat16"], expected)
    assert arrays["double"][0] == 5e-324
    assert arrays["module.in_proj_weight"].tobytes() == found["module"]["in_proj_weight"].numpy().tobytes()
    assert "optimizer.steps.0" in arrays


def test_tensors_of_other_dtypes_may_lie_beside_a_layer(tmp_path):
    """And are refused where they are its weights."""
    others = {
        "eight": torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
        "unsigned": torch.tensor([1, 2, 65535], dtype=torch.uint16),
        "complex": torch.tensor([1 + 2j]),
    }
    (tmp_path / "x.pt").write_bytes(saved({"layer": nn.MultiheadAttention(4, 2).state_dict(), **others}))
    arrays = open_weights(tmp_path / "x.pt").arrays
    assert arrays["unsigned"].tolist() == [1, 2, 65535]
    assert arrays["complex"].tolist() == [1 + 2j]
    assert layouts.from_("torch", arrays, prefix="layer")["W_q.weight"].shape == (4, 4)
    eight = {"in_proj_weight": torch.ones(12, 4).to(torch.float8_e4m3fn), "out_proj.weight": torch.ones(4, 4)}
    (tmp_path / "x.pt").write_bytes(saved(eight))
    with pytest.raises(ValueError, match=r"^in_proj_weight: expected float64, .*, got float8_e4m3"):
        layouts.from_("torch", open_weights(tmp_path / "x.pt").arrays)


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thing", [Evil(), nn.Linear(2, 2), {"x": np.ones(2)}, {"x": torch.ones(2), "y": Evil()}])
def test_nothing_is_run(tmp_path, capsys, kind, thing):
    words = outcome(tmp_path / "x.pt", saved(thing, **KINDS[kind]))
    assert "only a state dict's tensors are read, nothing is run" in words
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_every_length_is_refused(tmp_path, kind):
    data = saved(STATE, **KINDS[kind])
    assert outcome(tmp_path / "x.pt", data) == "read"
    for part in cut(data):
        assert outcome(tmp_path / "x.pt", part) != "read"


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_edits_harm_nobody(tmp_path, kind):
    data = saved(STATE, **KINDS[kind])
    for broken in (*edited(data, 500), *edited(data, 500, header=300)):
        outcome(tmp_path / "x.pt", broken)


def test_edits_of_the_pickle_alone_harm_nobody(tmp_path):
    """The zip vouches for its members by a checksum: a hostile file has the right one."""
    whole = zipfile.ZipFile(io.BytesIO(saved(STATE)))
    (name,) = (name for name in whole.namelist() if name.endswith("data.pkl"))
    for broken in edited(whole.read(name), 1000):
        with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
            for member in whole.namelist():
                archive.writestr(member, broken if member == name else whole.read(member))
        outcome(tmp_path / "x.pt", (tmp_path / "y.pt").read_bytes())


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02X\xff\xff\xff\xffx.",  # a text of 4 GB
        b"\x80\x02]r\xff\xff\xff\x7f.",  # memo slot 2 147 483 647
        b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # a bytearray of 64 GB
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",  # tuples in tuples
        b"\x80\x02]" + b"q\x00]h\x00h\x00e" * 10 + b".",
    ],
)
def test_pickles_made_to_hurt(tmp_path, program):
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    outcome(tmp_path / "x.pt", (tmp_path / "y.pt").read_bytes())
    outcome(tmp_path / "x.pt", program + pickle.dumps(3, 2))
