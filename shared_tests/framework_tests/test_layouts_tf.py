"""Layouts and files of Keras: its own layer answers as ours, from each of the files that it writes."""

import io
import zipfile

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.faults.broken_files import cut, edited, outcome
from shared_tests.layouts.convert import Conversion, to_bytes
from shared_tests.layouts.files import open_weights
from shared_tests.layouts.table import LAYOUTS
from shared_tests.subjects._tf import keras
from shared_tests.tensors import decode, widened

import tf_impl  # isort: skip


def model(dtype="float32"):
    """Two layers of Keras and one of ours, each with a name of the user's."""
    x = keras.Input((5, 8), dtype=dtype)
    first = keras.layers.MultiHeadAttention(2, 4, name="reading", dtype=dtype, dropout=0.1)
    second = keras.layers.MultiHeadAttention(4, 3, name="writing", dtype=dtype)
    ours = tf_impl.MultiHeadAttention(8, 8, 8, 8, 2, 0.0, bias=True, name="thinking", dtype=dtype)
    y = ours(*[second(first(x, x), x)] * 3)
    made = keras.Model(x, y)
    random = np.random.default_rng(0)
    for layer in (first, second, ours):
        layer.set_weights([random.normal(size=w.shape).astype(w.dtype) for w in layer.get_weights() if w.ndim])
    return made, first, second, ours


def canonical(layer):
    """What the layer holds, by its own account."""
    named = {w.path.rpartition(f"{layer.name}/")[2]: np.asarray(w) for w in layer.weights if w.shape}
    return layouts.from_("keras", named)


def converted(path, prefix, target="book"):
    file = open_weights(path)
    conversion = Conversion(LAYOUTS[target], prefix=prefix)
    return decode(to_bytes(conversion, [conversion.convert(file, group) for group in conversion.find(file)]))[0]


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert widened(array).tobytes() == widened(right[name]).tobytes(), name


PREFIXES = {
    "x.weights.h5": ("layers/multi_head_attention", "layers/multi_head_attention_1"),
    "x.keras": ("reading", "writing"),
    "x.h5": ("model_weights/reading", "model_weights/writing"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", PREFIXES)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_keras(tmp_path, name, dtype):
    made, *layers, _ = model(dtype)
    made.save_weights(tmp_path / name) if "weights" in name else made.save(tmp_path / name)
    for layer, prefix in zip(layers, PREFIXES[name], strict=True):
        same(converted(tmp_path / name, prefix), canonical(layer))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["x.keras", "x.h5"])
def test_the_name_that_a_layer_was_given_will_do(tmp_path, name):
    made, first, *_ = model()
    made.save(tmp_path / name)
    for prefix in ("reading", "reading/", "reading."):
        same(converted(tmp_path / name, prefix), canonical(first))


def test_ours_in_a_file_of_keras(tmp_path):
    """Whose config has the number of heads."""
    made, *_, ours = model()
    made.save(tmp_path / "x.keras")
    same(converted(tmp_path / "x.keras", "thinking"), tf_impl.export_weights(ours))
    assert converted(tmp_path / "x.keras", "thinking", "keras")["query/kernel"].shape == (8, 2, 4)


def test_a_gate_and_another_value_dim_are_refused(tmp_path):
    x = keras.Input((5, 8))
    for options, words in (
        ({"use_gate": True}, "a gate, which our function has not"),
        ({"value_dim": 5}, "expected 8 outputs, as others have, got 10"),
    ):
        keras.Model(x, keras.layers.MultiHeadAttention(2, 4, **options)(x, x)).save_weights(tmp_path / "x.weights.h5")
        with pytest.raises(ValueError, match=words):
            converted(tmp_path / "x.weights.h5", None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small ones: a single projection, with all that Keras puts around it."""
    folder = tmp_path_factory.mktemp("files")
    x = keras.Input((3,))
    made = keras.Model(x, keras.layers.Dense(2)(x))
    made.save_weights(folder / "x.weights.h5")
    made.save(folder / "x.keras")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras"])
def test_a_file_cut_at_every_length_is_refused(tmp_path, files, name):
    assert outcome(tmp_path / name, files[name]) == "read"
    for data in cut(files[name]):
        assert outcome(tmp_path / name, data) != "read"


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras"])
def test_a_thousand_edits_harm_nobody(tmp_path, files, name):
    for data in (*edited(files[name], 500), *edited(files[name], 500, header=1000)):
        outcome(tmp_path / name, data)


def test_edits_of_the_weights_in_a_zip_harm_nobody(tmp_path, files):
    """The zip vouches for its members by a checksum: a hostile file has the right one."""
    whole = zipfile.ZipFile(io.BytesIO(files["x.keras"]))
    for data in edited(files["x.weights.h5"], 500):
        with zipfile.ZipFile(tmp_path / "y.keras", "w") as archive:
            archive.writestr("config.json", whole.read("config.json"))
            archive.writestr("model.weights.h5", data)
        outcome(tmp_path / "x.keras", (tmp_path / "y.keras").read_bytes())
