"""Layouts: to the canonical dict and back, and each held to what the real layer stored and answered."""

from pathlib import Path

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.cases.case import GOLDENS, Config, canonical_shapes
from shared_tests.layouts.table import LAYOUTS, as_markdown
from shared_tests.storage import read_arrays
from shared_tests.studies.converted import judge_output, trial_of
from shared_tests.tensors import BFLOAT16, decode, widened

CROSS = Config(7, 5, 11, 9, 3, head_dim=4)
KEYS = Config(7, 12, 11, 12, 3)
ONE_KEY = Config(7, 5, 7, 9, 3, head_dim=4)
WIDE = Config(8, 8, 8, 8, 3, head_dim=4)
SQUARE = Config(12, 12, 12, 12, 3)
BLOCKS = Config(16, 16, 16, 16, 4)

SIZES = {
    "book": CROSS,
    "book-jax": CROSS,
    "book-tf": CROSS,
    "book-paddle": CROSS,
    "torch": KEYS,
    "torch-encoder-layer": SQUARE,
    "nnx": ONE_KEY,
    "linen": CROSS,
    "keras": CROSS,
    "bert": KEYS,
    "distilbert": SQUARE,
    "vit-hf": SQUARE,
    "gpt2": SQUARE,
    "gpt2-cross": SQUARE,
    "nanogpt": SQUARE,
    "bigcode": SQUARE,
    "gpt-neox": SQUARE,
    "codegen": BLOCKS,
    "opt": KEYS,
    "llama": Config(8, 8, 8, 8, 3, head_dim=4),
    "phi3": WIDE,
    "vit-timm": SQUARE,
    "beit": SQUARE,
    "equinox": CROSS,
    "haiku": CROSS,
    "ort": WIDE,
    "t5": WIDE,
}
"""Layout -> the least square sizes that it can hold. To add a layout: a line here, and a recorded layer."""
NO_BIAS = {name for name, layout in LAYOUTS.items() if layout.bias == "never"}


def draw(config, bias, dtype=np.float32):
    """Weights that show every trap: minus zero and subnormals among them."""
    random = np.random.default_rng(0)
    shapes = canonical_shapes(Config(**{**vars(config), "bias": bias}))
    weights = {name: random.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    for array in weights.values():
        array.flat[:3] = -0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    return weights


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype, name
        assert array.shape == right[name].shape, name
        assert array.tobytes() == right[name].tobytes(), name
        assert array.flags.c_contiguous, name


def without_output(layout, weights):
    return weights if LAYOUTS[layout].output else {n: x for n, x in weights.items() if not n.startswith("W_o")}


def test_every_layout_is_tested():
    assert SIZES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_there_and_back_bit_for_bit(name, bias, dtype):
    bias = bias or LAYOUTS[name].bias == "always"
    weights = draw(SIZES[name], bias and name not in NO_BIAS, np.dtype(dtype).type)
    for absent in set(LAYOUTS[name].no_bias) & weights.keys():
        weights[absent][:] = 0
    arrays = layouts.to(name, weights, num_heads=SIZES[name].num_heads)
    assert all(array.flags.c_contiguous for array in arrays.values())
    same(
        layouts.from_(name, arrays, num_heads=SIZES[name].num_heads),
        without_output(name, weights),
    )


@pytest.mark.parametrize("name", SIZES)
def test_bfloat16_is_moved_as_its_bits(name):
    weights = {part: (x.view(np.uint32) >> 16).astype(np.uint16) for part, x in draw(SIZES[name], False).items()}
    weights = {part: (bits & 0x3FFF).view(BFLOAT16) for part, bits in weights.items()}
    arrays = layouts.to(name, weights, num_heads=SIZES[name].num_heads)
    assert {array.dtype for array in arrays.values()} == {BFLOAT16}
    again = layouts.from_(name, arrays, num_heads=SIZES[name].num_heads)
    for part in without_output(name, weights):
        np.testing.assert_array_equal(again[part], weights[part])


def test_bfloat16_of_another_package_too():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weights = {name: x.astype(ml_dtypes.bfloat16) for name, x in draw(CROSS, True, np.float32).items()}
    for array in weights.values():
        array.flat[2] = 1
    same(layouts.from_("keras", layouts.to("keras", weights, num_heads=3)), weights)


RECORDED = sorted((Path(str(GOLDENS)) / "layers").glob("*.safetensors"))


def recorded(path):
    arrays, facts = decode(path.read_bytes())
    layer = {name.removeprefix("layer/"): array for name, array in arrays.items() if name.startswith("layer/")}
    return layer, arrays, facts, int(facts["num_heads"])


def verdict_on(weights, arrays, facts):
    num_heads = int(facts["num_heads"])
    inputs = arrays["queries"], arrays["keys"], arrays["values"]
    hidden, width = weights["W_o.weight"].shape
    config = Config(*(inputs[i].shape[-1] for i in (1, 0, 2)), hidden, num_heads, head_dim=width // num_heads)
    trial = trial_of(weights, config, inputs, facts["causal"] == "True", facts["scaled"] == "True")
    return judge_output(arrays["output"], trial)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_layer_answers_as_ours(path):
    """Real arrays through the layout: the real output is within the gate of the oracle's."""
    layer, arrays, facts, num_heads = recorded(path)
    assert (
        int(facts["head_dim"]) * num_heads
        == layouts.from_(facts["layout"], layer, num_heads=num_heads)["W_o.weight"].shape[1]
    )
    verdict = verdict_on(layouts.from_(facts["layout"], layer, num_heads=num_heads), arrays, facts)
    assert verdict.holds, verdict.note


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_layer_there_and_back(path):
    """What the real layer stored is what we would have written; where heads are shared, once they are repeated."""
    layer, _, facts, num_heads = recorded(path)
    name = facts["layout"]
    weights = layouts.from_(name, layer, num_heads=num_heads)
    arrays = layouts.to(name, weights, num_heads=num_heads)
    same(layouts.from_(name, arrays, num_heads=num_heads), weights)
    for part in arrays.keys() & layer.keys():
        if arrays[part].shape == layer[part].shape:
            assert arrays[part].tobytes() == layer[part].tobytes(), part
    assert LAYOUTS[name].grouped or arrays.keys() <= layer.keys()


def test_the_recorded_layouts_and_those_of_installed_frameworks_are_all():
    """Those of frameworks that every run of the tests has are held to the real layer there."""
    there = {decode(path.read_bytes())[1]["layout"] for path in RECORDED}
    here = {"book", "book-jax", "book-tf", "torch", "torch-encoder-layer", "nanogpt", "nnx", "linen", "keras", "ort"}
    assert there | here == LAYOUTS.keys()
    assert not there & here


def turned(arrays):
    """Every square matrix transposed: what a wrong orientation makes, and no shape can show."""
    return {n: np.ascontiguousarray(x.T) if x.ndim == 2 and len(set(x.shape)) == 1 else x for n, x in arrays.items()}


def thirds_turned(arrays):
    """The parts of a fused projection in another order."""
    return {n: np.concatenate(np.split(x, 3)[::-1]) if x.shape[0] == 48 else x for n, x in arrays.items()}


def heads_interleaved(arrays):
    """Rows of a fused projection as if its heads were the slower axis, or the other way round."""
    return {
        n: np.ascontiguousarray(x.reshape(3, 4, 4, *x.shape[1:]).swapaxes(0, 1)).reshape(x.shape)
        if x.shape[0] == 48
        else x
        for n, x in arrays.items()
    }


@pytest.mark.parametrize(
    ("stem", "wrong"),
    [
        ("bert", turned),
        ("book-paddle_square", turned),
        ("distilbert", turned),
        ("opt", turned),
        ("vit-timm", turned),
        ("gpt2", turned),
        ("vit-timm", thirds_turned),
        ("neox", thirds_turned),
        ("codegen", thirds_turned),
        ("vit-timm", heads_interleaved),
        ("neox", heads_interleaved),
        ("bigcode", heads_interleaved),
    ],
)
def test_a_wrong_reading_of_square_matrices_is_seen(stem, wrong):
    """Right shapes, wrong numbers: only the layer's own answer tells."""
    (path,) = (path for path in RECORDED if path.stem == stem)
    layer, arrays, facts, num_heads = recorded(path)
    weights = layouts.from_(facts["layout"], wrong(layer), num_heads=num_heads)
    assert not verdict_on(weights, arrays, facts).holds


def test_wrong_number_of_heads_is_seen():
    (path,) = (path for path in RECORDED if path.stem == "neox")
    layer, arrays, facts, _ = recorded(path)
    assert not verdict_on(layouts.from_("gpt-neox", layer, num_heads=2), arrays, facts).holds


def test_heads_that_share_keys_are_repeated_in_groups():
    """Head h uses key head h // (heads / groups): each repeated in its place, not all of them in turn."""
    weights = draw(SQUARE, False)
    arrays = layouts.to("llama", weights)
    arrays["k_proj.weight"] = np.arange(48, dtype=np.float32).reshape(4, 12)
    arrays["v_proj.weight"] = arrays["k_proj.weight"] + 100
    again = layouts.from_("llama", arrays, num_heads=6)
    for name, source in (("W_k.weight", "k_proj.weight"), ("W_v.weight", "v_proj.weight")):
        for head in range(6):
            rows = again[name][2 * head : 2 * head + 2]
            np.testing.assert_array_equal(rows, arrays[source][2 * (head // 3) : 2 * (head // 3) + 2])


def test_missing_biases_beside_others_are_zeros():
    arrays = layouts.to("opt", draw(KEYS, True))
    del arrays["k_proj.bias"]
    np.testing.assert_array_equal(layouts.from_("opt", arrays)["W_k.bias"], np.zeros(12, np.float32))


def test_additive_scoring_travels_between_books():
    config = Config(7, 5, 11, 9, 3, head_dim=4)
    random = np.random.default_rng(0)
    scoring = {"attention.W_q.weight": (6, 4), "attention.W_k.weight": (6, 4), "attention.w_v.weight": (1, 6)}
    weights = draw(config, False) | {name: random.normal(size=shape) for name, shape in scoring.items()}
    for name in ("book", "book-jax", "book-tf", "book-paddle"):
        same(layouts.from_(name, layouts.to(name, weights)), weights)
    with pytest.raises(ValueError, match=r"^attention\.W_q\.weight: expected no additive scoring"):
        layouts.to("equinox", weights)


def test_widened_bfloat16_is_the_same_number():
    bits = np.array([0x3F80, 0x8000, 0x0001, 0x7F7F, 0xC040], np.uint16).view(BFLOAT16)
    np.testing.assert_array_equal(
        widened(bits), np.array([1.0, -0.0, 2.0**-133, (2 - 2.0**-7) * 2.0**127, -3.0], np.float32)
    )


def test_the_digits_travel_through_every_layout():
    """The trained golden, where its sizes allow."""
    weights = read_arrays(GOLDENS / "digits.safetensors")
    travelled = 0
    for name in LAYOUTS:
        try:
            arrays = layouts.to(name, weights, num_heads=4)
        except ValueError:
            continue
        if LAYOUTS[name].output:
            same(layouts.from_(name, arrays, num_heads=4), weights)
            travelled += 1
    assert travelled >= 8


def test_the_guide_has_the_table():
    """If this fails, paste what `as_markdown` gives."""
    guide = Path(__file__).parents[2] / "docs" / "converting.md"
    assert as_markdown() in guide.read_text(), as_markdown()
