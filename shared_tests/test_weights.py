"""Clause group 5: canonical weights out of a module, into another, onto disk, and back."""

from itertools import permutations

import numpy as np
import pytest

from shared_tests.cases.case import GOLDENS, canonical_shapes, draw
from shared_tests.cases.table import BIASED, CASES, CROSS
from shared_tests.storage import read_arrays, write_arrays

DTYPES = ["float64", "float32", "bfloat16", "float16"]


@pytest.mark.parametrize("name", ["bias", "additive"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_through_every_pair(subjects, name, dtype):
    trial = draw(name, CASES[name], dtype)
    for first, second in permutations(subjects, 2):
        weights = trial.parameters
        for station in (first, second):
            layer, _ = station.build(trial.config, weights, dtype)
            weights = station.package.export_weights(layer)
        assert set(weights) == set(trial.parameters)
        for name, array in weights.items():
            assert array.flags.c_contiguous
            assert array.dtype == trial.parameters[name].dtype
            np.testing.assert_array_equal(array, trial.parameters[name])


def test_exported_shapes_are_the_books(subject):
    for config in (CROSS, BIASED):
        layer = subject.make("MultiHeadAttention", **config, dropout=0.0)
        exported = subject.package.export_weights(layer)
        assert {name: array.shape for name, array in exported.items()} == canonical_shapes(config)


def test_exported_arrays_are_copies(subject):
    layer = subject.make("MultiHeadAttention", **BIASED, dropout=0.0)
    before = {name: array.copy() for name, array in subject.package.export_weights(layer).items()}
    for array in subject.package.export_weights(layer).values():
        array += 1
    after = subject.package.export_weights(layer)
    assert all((before[name] == after[name]).all() for name in before)


def test_loaded_arrays_are_copied_whatever_their_memory_order(subject):
    trial = draw("bias", CASES["bias"], "float32")
    layer = subject.make("MultiHeadAttention", **trial.config, dropout=0.0)
    given = {name: np.array(array, order="F") for name, array in trial.parameters.items()}
    subject.package.load_weights(layer, given)
    for array in given.values():
        array += 1
    exported = subject.package.export_weights(layer)
    assert all((exported[name] == array).all() for name, array in trial.parameters.items())


def test_float64_weights_are_loaded_and_exported_anywhere(subject):
    """Also outside the context in which JAX has float64, from arrays that are read-only or run backwards."""
    trial = draw("bias", CASES["bias"], "float64")
    layer = subject.make("MultiHeadAttention", **trial.config, dropout=0.0, dtype="float64")
    given = {name: array[::-1].copy()[::-1] for name, array in trial.parameters.items()}
    for array in given.values():
        array.flags.writeable = False
    subject.package.load_weights(layer, given)
    for name, array in subject.package.export_weights(layer).items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, trial.parameters[name])


def test_every_problem_is_named_at_once_and_nothing_is_loaded(subject):
    layer = subject.make("MultiHeadAttention", **BIASED, dropout=0.0, dtype="float16")
    before = subject.package.export_weights(layer)
    bad = {name: array + 1 for name, array in before.items()}
    del bad["W_q.weight"]
    bad["W_x.weight"] = np.ones((2, 2))
    bad["W_k.weight"] = bad["W_k.weight"].T
    bad["W_v.weight"] = np.full((12, 11), np.nan)
    bad["W_o.weight"] = np.full((12, 12), 1e6)
    bad["W_o.bias"] = np.arange(12)
    with pytest.raises(ValueError, match=r"^weights: ") as caught:
        subject.package.load_weights(layer, bad)
    assert sorted(str(caught.value).removeprefix("weights: ").split("; ")) == [
        "W_k.weight: expected shape (12, 7), got (7, 12)",
        "W_o.bias: expected float dtype, got int64",
        "W_o.weight: expected finite numbers of at most 6.55e+04",
        "W_q.weight: missing",
        "W_v.weight: expected finite numbers of at most 6.55e+04",
        "W_x.weight: unexpected",
    ]
    after = subject.package.export_weights(layer)
    assert all((after[name] == array).all() for name, array in before.items())


def test_file_holds_what_was_written_whatever_its_memory_order(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    write_arrays(tmp_path / "x.safetensors", {"plain": array, "transposed": array.T, "strided": array[:, ::2]})
    read = read_arrays(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read["plain"], array)
    np.testing.assert_array_equal(read["transposed"], array.T)
    np.testing.assert_array_equal(read["strided"], array[:, ::2])
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("how", ["truncated", "header cut", "foreign", "empty"])
def test_file_that_is_no_safetensors_file(tmp_path, how):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"x": np.arange(100.0)})
    data = path.read_bytes()
    path.write_bytes({"truncated": data[:-9], "header cut": data[:20], "foreign": b"PK" + data, "empty": b""}[how])
    with pytest.raises(ValueError, match=r"x\.safetensors: expected a safetensors file") as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"x": np.arange(3.0)})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_arrays(path, {"x": np.zeros(3)})
    np.testing.assert_array_equal(read_arrays(path)["x"], np.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_goldens_are_the_trained_layer_and_images():
    weights = read_arrays(GOLDENS / "digits.safetensors")
    held_out = read_arrays(GOLDENS / "digits_held_out.safetensors")
    assert {name: array.shape for name, array in weights.items()} == canonical_shapes(CASES["digits"].config)
    assert held_out["images"].shape == (360, 8, 8)
    assert held_out["labels"].shape == (360,)
    assert set(held_out["labels"]) == set(range(10))
