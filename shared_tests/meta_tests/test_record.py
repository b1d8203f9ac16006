"""A record holds what subjects answer, is read by anybody, and is refused if a byte of it is another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shared_tests import Subject, record
from shared_tests.cases.table import CASES, EVERY
from shared_tests.faults.planted import Planted
from shared_tests.storage import write_arrays, write_bytes
from shared_tests.studies import recording
from shared_tests.studies.recording import read_record
from shared_tests.tensors import decode, encode

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
TINY = {"single query": CASES["single query"]}
SOME = {name: CASES[name] for name in ("book", "lengths", "zero lengths", "additive", "dropout", "empty batch")}
TRIHEAD = [sys.executable, "-m", "shared_tests"]


class Half(Planted):
    dtypes = EVERY


def trihead(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*TRIHEAD, *map(str, arguments)], **options)


def test_a_record_survives_a_file(tmp_path):
    """All of it, and it is the same bytes whenever it is written."""
    heard = []
    made = record(Half(), cases=SOME, advance=heard.append)
    made.save(tmp_path / "x.safetensors")
    read = read_record(tmp_path / "x.safetensors")
    assert (read.facts, read.subjects) == (made.facts, made.subjects)
    assert read.arrays.keys() == made.arrays.keys()
    for name, array in made.arrays.items():
        assert np.array_equal(read.arrays[name], array)
        assert read.arrays[name].dtype == array.dtype
    assert read.encoded() == (tmp_path / "x.safetensors").read_bytes()
    assert {"book, float64", "dropout, float16", "additive, bfloat16"} <= {*heard}


def test_what_is_recorded(tmp_path):
    """Outputs, attention weights and gradients, by name, in numbers that any language reads."""
    safetensors = pytest.importorskip("safetensors.numpy")
    record(Half(), cases=SOME).save(tmp_path / "x.safetensors")
    arrays = safetensors.load_file(tmp_path / "x.safetensors")
    _, metadata = decode((tmp_path / "x.safetensors").read_bytes())
    shapes = {"output": (2, 5, 12), "attention_weights": (2, 3, 5, 7), "gradient of keys": (2, 7, 7)}
    for name, shape in (shapes | {"gradient of W_v.weight": (12, 11)}).items():
        assert arrays[f"right/lengths/float32/{name}"].shape == shape
    assert {x.dtype.name for name, x in arrays.items() if "/float64/" in name} == {"float64"}
    assert {x.dtype.name for name, x in arrays.items() if "/float64/" not in name} == {"float32"}
    half = arrays["right/dropout/float16/output"]
    assert np.array_equal(half, half.astype(np.float16))
    manifest = json.loads(metadata["manifest"])
    assert {"date", "machine", "processor", "numpy", "python"} <= manifest["facts"].keys()
    about = manifest["subjects"]["right"]
    assert about["claims"]["dtypes"] == list(EVERY)
    assert about["claims"]["methods"] == ["gradients", "with_mask"]
    assert len(about["digests"]) == sum(len(case.dtypes) for case in SOME.values())
    assert len({*about["digests"].values()}) == len(about["digests"])
    assert (metadata["made by"], metadata["schema"]) == ("trihead record", "1")


def test_trainings_are_recorded():
    """Their losses, of whoever trains."""

    class Trains(Subject):
        dtypes = ("float32",)

        def build(self, config, weights, dtype):
            raise RuntimeError("not today")

        def train(self, *arguments):
            yield from ((loss, {}) for loss in (2.5, 1.5))

    made = record(Trains())
    assert {name: array.tolist() for name, array in made.arrays.items()} == {
        "Trains/training, adam/float32/loss": [2.5, 1.5],
        "Trains/training, sgd/float32/loss": [2.5, 1.5],
    }
    errors = made.subjects["Trains"].errors
    assert errors["lengths/float32"] == "RuntimeError: not today"
    assert "training, sgd/float32" not in errors


def test_a_file_cut_anywhere_is_refused(tmp_path):
    data, path = record(Planted(), cases=TINY).encoded(), tmp_path / "x.safetensors"
    for length in range(0, len(data), 61):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=rf"^{path}: expected a record, got .*truncated or foreign.*\)$"):
            read_record(path)


def test_a_byte_edited_anywhere_is_refused(tmp_path):
    """In one line that names the file, whatever the byte meant."""
    data, path = record(Planted(), cases=TINY).encoded(), tmp_path / "x.safetensors"
    random = np.random.default_rng(0)
    for place in [*range(300), *range(300, len(data), 41)]:
        broken = bytearray(data)
        broken[place] ^= int(random.integers(1, 256))
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"^{path}: expected a record") as error:
            read_record(path)
        assert len(str(error.value).splitlines()) == 1


def test_a_header_that_says_the_same_otherwise_is_refused(tmp_path):
    """Nothing in the file can be another unseen, not even a space."""
    data, path = record(Planted(), cases=TINY).encoded(), tmp_path / "x.safetensors"
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), indent=1).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    with pytest.raises(ValueError, match=r"got one that was changed$"):
        read_record(path)


def test_strangers_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match=f"^{path}: expected a record, got a file that trihead record did not write$"):
        read_record(path)
    monkeypatch.setattr(recording, "SCHEMA", "2")
    record(Planted(), cases=TINY).save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"^{path}: expected a record of schema 1, got '2'$"):
        read_record(path)
    made = record(Planted(), cases=TINY)
    arrays, metadata = decode(made.encoded())
    moved = {name: array + 1 for name, array in arrays.items()}
    write_bytes(path, encode(moved, metadata))
    with pytest.raises(ValueError, match=f"^{path}: expected a record as trihead record wrote it, got one that was"):
        read_record(path)


def test_several_subjects_each_in_a_process(tmp_path):
    other = tmp_path / "other.py"
    other.write_text(PORT.read_text().replace("class MyPort", "class Other"))
    found = tmp_path / "x.safetensors"
    result = trihead("record", found, "--subject", f"{PORT}:MyPort", "--subject", f"{other}:Other")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{found}: MyPort, Other: 491,232 numbers\n"
    made = read_record(found)
    assert list(made.subjects) == ["MyPort", "Other"]
    assert made.subjects["Other"].source == f"{other}:Other"
    assert np.array_equal(made.arrays["MyPort/digits/float32/output"], made.arrays["Other/digits/float32/output"])


def test_bad_use_is_one_line(tmp_path):
    for arguments, words in (
        (("record", tmp_path / "no" / "x"), "OUT: expected a file in an existing folder"),
        (("record", tmp_path / "x", "--subject", "nobody"), "subject: expected one of"),
        (("record", tmp_path / "x", "--subject", f"{PORT}:MyPort", "--subject", f"{PORT}:MyPort"), "different names"),
    ):
        result = trihead(*arguments)
        assert result.returncode == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
def test_interrupted_it_leaves_nothing(tmp_path):
    """And the file that was there before stays."""
    slow = tmp_path / "slow.py"
    begun = tmp_path / "begun"
    wait = f"open({str(begun)!r}, 'w').close(); import time; time.sleep(60)"
    slow.write_text(
        PORT.read_text().replace("    def forward(", f"    def build(self, *_):\n        {wait}\n\n    def forward(")
    )
    (tmp_path / "x.safetensors").write_text("as it was")
    command = [*TRIHEAD, "record", str(tmp_path / "x.safetensors"), "--subject", f"{slow}:MyPort"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it, and so
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # would what it starts
    signal.signal(signal.SIGINT, before)
    try:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode not in (0, 1, 2)
    assert (tmp_path / "x.safetensors").read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} <= {"slow.py", "begun", "x.safetensors", "__pycache__"}
