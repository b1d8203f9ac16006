"""Files of weights: what is read is what was written, and no file can harm the reader."""

import io
import re
import zipfile

import numpy as np
import pytest

from shared_tests.cases.case import Config, canonical_shapes
from shared_tests.faults.broken_files import cut, edited, outcome
from shared_tests.layouts.files import open_weights
from shared_tests.storage import read_arrays, write_bytes
from shared_tests.tensors import BFLOAT16, decode, encode


def test_numbers_survive_a_file(tmp_path):
    """Minus zero, subnormals, Fortran's order, a reversed byte order, bfloat16."""
    odd = np.array([[-0.0, 5e-324, 1e308], [1, 2, 3]])
    np.savez(tmp_path / "x.npz", plain=odd, fortran=np.asfortranarray(odd), big=odd.astype(">f8"), scalar=np.float32(2))
    arrays = open_weights(tmp_path / "x.npz").arrays
    for name in ("plain", "fortran", "big"):
        assert np.ascontiguousarray(arrays[name]).astype("<f8").tobytes() == odd.tobytes(), name
    write_bytes(tmp_path / "x.safetensors", encode({"b": np.arange(6, dtype=np.uint16).view(BFLOAT16).reshape(2, 3).T}))
    read = open_weights(tmp_path / "x.safetensors").arrays["b"]
    np.testing.assert_array_equal(read["bfloat16"], np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(read_arrays(tmp_path / "x.safetensors")["b"].view(np.uint32) >> 16, read["bfloat16"])


def test_the_reference_reader_reads_what_we_write():
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.float16([[1], [2]]), "empty": np.zeros((0, 3), np.float32)}
    read = safetensors.load(encode(arrays, {"layout": "book"}))
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    again, _ = decode(safetensors.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    assert again.keys() == arrays.keys()


def npz(arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


SMALL = {name: np.full(shape, 0.5, "f4") for name, shape in canonical_shapes(Config(2, 2, 2, 2, 1, bias=True)).items()}
FILES = {"x.safetensors": encode(SMALL, {"num_heads": "1"}), "x.npz": npz(SMALL)}


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_at_every_length_is_refused(tmp_path, name):
    for data in cut(FILES[name]):
        assert outcome(tmp_path / name, data) != "read"
    assert outcome(tmp_path / name, FILES[name]) == "read"


@pytest.mark.parametrize("name", FILES)
def test_a_thousand_edits_harm_nobody(tmp_path, name):
    for data in (*edited(FILES[name], 500), *edited(FILES[name], 500, header=200)):
        outcome(tmp_path / name, data)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"x": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}', "a shape that needs other"),
        ('{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "shape or offsets that are no sizes"),
        ('{"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', "offsets outside the file"),
        ('{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "x": 1}', "one name twice"),
        ('{"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}', "x: dtype 'F99'"),
        (
            '{"x": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}, '
            '"y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            "arrays that overlap or leave gaps",
        ),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "a header that is no table"),
        ("{}", "4 bytes that belong to no array"),
    ],
)
def test_headers_that_lie(header, words):
    data = len(header).to_bytes(8, "little") + header.encode() + b"\0" * 4
    with pytest.raises(ValueError, match=re.escape(words)):
        decode(data)


@pytest.mark.parametrize(
    ("descr", "shape", "words"),
    [
        ("'|O'", "(1,)", "elements that are no numbers"),
        ("'<f4'", "(1000000000000,)", "a shape that needs others"),
        ("'<f4'", "(-1,)", "a shape that is no sizes"),
        ("[('a', '<f4')]", "(1,)", "elements that are no numbers"),
    ],
)
def test_npz_members_that_lie(tmp_path, descr, shape, words):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0" * 4
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", member)
    assert words in outcome(tmp_path / "x.npz", (tmp_path / "x.npz").read_bytes())
