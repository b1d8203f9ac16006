"""`trihead convert`: what it finds, writes, says and refuses."""

import json
import re
import sys

import numpy as np
import pytest

from shared_tests import layouts
from shared_tests.cases.case import Config, canonical_shapes
from shared_tests.commands.app import main
from shared_tests.layouts.table import LAYOUTS
from shared_tests.storage import write_arrays
from shared_tests.tensors import decode, encode

SQUARE = Config(12, 12, 12, 12, 3, bias=True)


def draw(config=SQUARE, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in canonical_shapes(config).items()}


def under(prefix, arrays):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    """Runs the command on arrays; gives (exit code, standard output, standard error, what it wrote)."""

    def run(arrays, *options, out="out.safetensors"):
        source, target = tmp_path / "in.safetensors", tmp_path / out
        if isinstance(arrays, dict):
            write_arrays(source, arrays)
        else:
            source = arrays
        monkeypatch.setattr(sys, "argv", ["trihead", "convert", str(source), str(target), *map(str, options)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        written = decode(target.read_bytes())[0] if target.exists() else None
        return stop.value.code, said.out, said.err, written

    return run


def same(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert (array.dtype, array.tobytes()) == (right[name].dtype, right[name].tobytes()), name


def test_one_layer_of_a_model(convert):
    """Everything outside is left alone, and names are bare."""
    weights = draw()
    model = under("encoder.layer.0.attention.", layouts.to("bert", weights))
    model |= {"encoder.layer.0.attention.output.LayerNorm.weight": np.ones(12), "embeddings.weight": np.ones((5, 12))}
    for prefix in ("encoder.layer.0.attention", "encoder.layer.0.attention.", "encoder/layer/0/attention/"):
        code, out, err, written = convert(model, "--to", "book", "--prefix", prefix)
        assert (code, err) == (0, "")
        same(written, weights)
        for name in model:
            assert (name in out) == ("LayerNorm" not in name and "embeddings" not in name)
    code, _, _, written = convert(model, "--to", "book")
    assert code == 0  # the only layer there is
    same(written, weights)


def test_every_block_of_a_model(convert):
    blocks = {f"h.{i}.attn.": draw(seed=i) for i in (0, 1, 2, 10)}
    model = {
        name: x for prefix, weights in blocks.items() for name, x in under(prefix, layouts.to("gpt2", weights)).items()
    }
    model |= {f"{prefix}bias": np.ones((1, 1, 5, 5), bool) for prefix in blocks}
    code, out, _, written = convert(model, "--to", "book", "--prefix", "h.*.attn")
    assert code == 0
    same(written, {name: x for prefix, weights in blocks.items() for name, x in under(prefix, weights).items()})
    assert out.index("h.2.attn") < out.index("h.10.attn")
    assert "with lengths 1 … n per query" in out


def test_several_layers_are_listed(convert):
    model = {
        name: x for i in range(2) for name, x in under(f"layers.{i}.self_attn.", layouts.to("opt", draw())).items()
    }
    code, out, err, written = convert(model, "--to", "book")
    assert (code, out, written) == (2, "", None)
    assert err == "trihead: prefix: expected one of layers.0.self_attn (opt), layers.1.self_attn (opt), got none\n"


@pytest.mark.parametrize("source", [name for name, layout in LAYOUTS.items() if layout.output])
@pytest.mark.parametrize("target", ["book", "keras", "gpt-neox"])
def test_from_every_layout(convert, source, target):
    config = Config(16, 16, 16, 16, 4, bias=LAYOUTS[source].bias != "never")
    weights = draw(config)
    if LAYOUTS[source].no_bias:
        weights["W_k.bias"][:] = 0
    arrays = layouts.to(source, weights, num_heads=4)
    code, _, err, written = convert(arrays, "--from", source, "--to", target, "--num-heads", 4)
    assert (code, err) == (0, "")
    same(written, layouts.to(target, weights, num_heads=4))


TWINS = ("book", "book-paddle"), ("nanogpt", "bigcode")
"""Layouts of the same names and, where matrices are square and no heads share keys, the same shapes."""


def test_the_layout_is_found_where_only_one_fits(convert):
    for name, layout in LAYOUTS.items():
        weights = draw(Config(16, 16, 16, 16, 4, bias=layout.bias != "never"))
        if layout.no_bias:
            weights["W_k.bias"][:] = 0
        code, _, err, written = convert(layouts.to(name, weights, num_heads=4), "--to", "book", "--num-heads", 4)
        if both := next((pair for pair in TWINS if name in pair), None):
            assert (code, err) == (
                2,
                f"trihead: layout: expected one (--from), since {', '.join(both)} all fit, got none\n",
            )
            continue
        assert (code, err) == (0, ""), name
        same(written, weights if layout.output else {n: x for n, x in weights.items() if not n.startswith("W_o")})
    code, _, _, written = convert(draw(Config(7, 5, 11, 9, 3, head_dim=4)), "--to", "book")
    assert code == 0  # not square, so no transposed reading fits


def test_layouts_that_mean_the_same_are_all_named(convert):
    """A Llama of full heads is stored as a ViT is: the weights are the same, and only one of them turns its queries."""
    weights = draw(Config(12, 12, 12, 12, 3))
    code, out, _, written = convert(layouts.to("llama", weights), "--to", "book")
    assert code == 0
    same(written, weights)
    assert "from vit-hf, llama" in out
    assert "llama: the function is weights only: rotary positions" in out


def test_names_as_jax_spells_the_paths_of_a_tree(convert):
    weights = draw()
    code, _, _, written = convert(under(".layers[0].attention.", layouts.to("equinox", weights)), "--to", "book")
    assert code == 0
    same(written, weights)
    code, _, _, written = convert(under(".", layouts.to("equinox", weights)), "--to", "book")
    assert code == 0
    arrays = under(".layers[0].attention.", layouts.to("equinox", weights))
    _, _, _, written = convert(arrays, "--to", "book", "--prefix", "layers[*].attention")
    same(written, under("layers[0].attention.", weights))


def test_shapes_that_show_heads_need_no_config(convert, tmp_path):
    """One of another model may lie beside the file."""
    weights = draw()
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 12}))
    code, _, err, written = convert(layouts.to("keras", weights, num_heads=3), "--to", "gpt-neox")
    assert (code, err) == (0, "")
    same(written, layouts.to("gpt-neox", weights, num_heads=3))


def test_names_may_hold_anything(convert):
    """What a table would take for markup, and ends of lines in an error."""
    for prefix in ("layers[/0].", "[bold]x[/bold]."):
        code, out, _, _ = convert(under(prefix, layouts.to("bert", draw())), "--to", "book")
        assert code == 0
        assert f"{prefix}self.query.weight" in out
    code, _, err, _ = convert(changed(**{"self__a\nb\r": np.ones(12)}), "--to", "book")
    assert code == 2
    assert err.startswith("trihead: self.a b : unexpected in layout bert")
    assert len(err.splitlines()) == 1


def test_what_was_written_says_what_it_is(convert, tmp_path):
    weights = draw()
    code, _, _, _ = convert(layouts.to("keras", weights, num_heads=3), "--to", "book", out="book.safetensors")
    assert code == 0
    code, _, _, written = convert(tmp_path / "book.safetensors", "--to", "keras")  # neither --from nor --num-heads
    assert code == 0
    same(written, layouts.to("keras", weights, num_heads=3))


def test_what_is_filled_in_is_said(convert):
    arrays = layouts.to("opt", draw())
    del arrays["k_proj.bias"]
    _, out, _, written = convert(arrays, "--to", "book")
    assert "W_k.bias missing beside other biases: zeros" in out
    assert not written["W_k.bias"].any()
    arrays = layouts.to("llama", draw())
    for name in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        arrays[name] = arrays[name][:4]
    code, out, _, written = convert(arrays, "--to", "book", "--num-heads", 3)
    assert code == 0
    assert "1 key and value heads repeated for 3 heads" in out
    np.testing.assert_array_equal(written["W_v.weight"], np.tile(arrays["v_proj.weight"], (3, 1)))
    _, out, _, _ = convert(draw(), "--to", "ort", "--from", "book")
    assert "W_o.weight, W_o.bias left out: no place for it" in out


def test_heads_come_from_a_config_beside_the_file(convert, tmp_path):
    weights = draw()
    arrays = under("layers.0.attention.", layouts.to("gpt-neox", weights, num_heads=3))
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 3, "num_hidden_layers": 1}))
    code, _, err, written = convert(arrays, "--to", "keras")
    assert (code, err) == (0, "")
    same(written, layouts.to("keras", weights, num_heads=3))
    code, _, err, _ = convert(arrays, "--to", "keras", "--num-heads", 6)
    assert (code, err) == (2, "trihead: heads: expected 3, as config.json says, got 6\n")
    (tmp_path / "config.json").write_text(json.dumps({"encoder_attention_heads": 2, "decoder_attention_heads": 3}))
    model = under("model.decoder.layers.0.self_attn.", layouts.to("opt", weights))
    code, _, _, written = convert(model, "--to", "keras")
    assert written["query/kernel"].shape == (12, 3, 4)


def changed(**arrays):
    """A BERT layer with some arrays changed, or taken away if None."""
    found = layouts.to("bert", draw()) | {name.replace("__", "."): array for name, array in arrays.items()}
    return {name: array for name, array in found.items() if array is not None}


REFUSED = {
    "missing": (changed(self__key__weight=None), [], "self.key.weight: missing in layout bert"),
    "misshaped": (
        changed(self__key__weight=np.ones((10, 12), np.float32)),
        [],
        "self.key.weight: expected 12 outputs, as others have, got 10",
    ),
    "axes": (changed(self__key__weight=np.ones(12)), [], "self.key.weight: expected shape (out, in), got (12,)"),
    "bias": (changed(self__key__bias=np.ones(10)), [], "self.key.bias: expected shape (12,), got (10,)"),
    "leftover": (changed(self__distance=np.ones(12)), [], "self.distance: unexpected in layout bert"),
    "prefix": (
        changed(),
        ["--prefix", "layer.7"],
        "prefix: expected one that the file has, got layer.7; found: no prefix (bert)",
    ),
    "layout": (
        changed(),
        ["--from", "gpt2"],
        "layout: expected names of gpt2, such as c_attn.weight, got output.dense.bias, output.dense.weight, "
        "self.key.bias and 5 more; found: no prefix (bert)",
    ),
    "unknown layout": (changed(), ["--from", "flux"], f"layout: expected one of {', '.join(LAYOUTS)}, got flux"),
    "QK-norm": (
        changed(q_norm__weight=np.ones(4)),
        [],
        "q_norm.weight: expected no such array, got QK-norm, which our function has not",
    ),
    "gate": (
        changed(gate__kernel=np.ones((12, 12))),
        [],
        "gate.kernel: expected no such array, got a gate, which our function has not",
    ),
    "bias_k": (
        changed(bias_k=np.ones(12)),
        [],
        "bias_k: expected no such array, got a key and a value of its own, which our function has not",
    ),
    "relative": (
        changed(self__distance_embedding__weight=np.ones((9, 4))),
        [],
        "self.distance_embedding.weight: expected no such array, got relative positions, which our function has not",
    ),
    "heads": (changed(), ["--num-heads", 5], "heads: expected a number of heads that divides 12, got 5"),
    "twice": (
        {**changed(), "self/key.weight": np.ones((12, 12))},
        [],
        "self.key.weight: expected one array of that name, got self/key.weight too",
    ),
    "no heads": (changed(), ["--num-heads", 0], "heads: expected a number of heads that divides 12, got 0"),
    "integers": (
        changed(self__key__weight=np.ones((12, 12), np.int8)),
        [],
        "self.key.weight: expected float64, float32, float16 or bfloat16, got int8",
    ),
    "not finite": (
        changed(self__key__bias=np.full(12, np.nan)),
        [],
        "self.key.bias: expected finite numbers, got 12 that are not",
    ),
    "no layer": (
        {"x": np.ones(3)},
        [],
        "expected an attention layer in a known layout (trihead convert --list), got x",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_and_leave_the_old_file(convert, tmp_path, name):
    arrays, options, words = REFUSED[name]
    (tmp_path / "out.safetensors").write_bytes(encode({"old": np.ones(3)}))
    code, out, err, written = convert(arrays, "--to", "book", *options)
    assert (code, out) == (2, "")
    assert err == f"trihead: {words}\n"
    assert list(written) == ["old"]


@pytest.mark.parametrize(
    ("target", "config", "options", "words"),
    [
        (
            "torch",
            Config(8, 8, 8, 8, 3, head_dim=4),
            [],
            "W_o.weight: expected heads * head_dim to be num_hiddens, 8, in layout torch, got 12",
        ),
        (
            "bert",
            Config(12, 5, 12, 12, 3),
            [],
            "W_q.weight: expected query_size to be num_hiddens, 12, in layout bert, got 5",
        ),
        (
            "nnx",
            Config(7, 12, 5, 12, 3),
            ["--num-heads", 3],
            "W_k.weight, W_v.weight: expected key_size to be value_size in layout nnx, got 7 and 5",
        ),
        (
            "keras",
            SQUARE,
            [],
            "heads: expected their number (--num-heads), got none: layout keras needs it for query/kernel",
        ),
        ("t5", SQUARE, [], "W_q.bias: expected zeros, since layout t5 has no place for it, got others"),
        ("nobody", SQUARE, [], f"layout: expected one of {', '.join(LAYOUTS)}, got nobody"),
    ],
)
def test_a_target_without_a_place_refuses(convert, target, config, options, words):
    code, out, err, written = convert(draw(config), "--from", "book", "--to", target, *options)
    assert (code, out, written) == (2, "", None)
    assert err == f"trihead: {words}\n"


def test_heads_that_shapes_contradict(convert):
    arrays = layouts.to("keras", draw(), num_heads=3)
    code, _, err, _ = convert(arrays, "--to", "book", "--num-heads", 4)
    assert (code, err) == (
        2,
        "trihead: query.kernel: expected 4 heads, got 3\n".replace("query.kernel", "query/kernel"),
    )
    arrays["value/kernel"] = np.ones((12, 3, 5), np.float32)
    code, _, err, _ = convert(arrays, "--to", "book")
    assert (code, err) == (2, "trihead: value/kernel: expected 12 outputs, as others have, got 15\n")


def test_bad_files(convert, tmp_path):
    for name, data, words in (
        ("x.safetensors", b"", "expected a safetensors file, got one that is truncated or foreign"),
        ("x.npz", b"PK", "expected an npz file, got one that is truncated or foreign"),
        ("x.pt", b"nonsense", "expected a torch file, got one that is truncated or foreign"),
        ("x.keras", b"nonsense", "expected a Keras file, got one that is truncated or foreign"),
        ("x.h5", b"nonsense", "expected an HDF5 file, got one that is truncated or foreign"),
        ("x.onnx", b"nonsense", "expected a name that ends in .safetensors, .npz"),
    ):
        (tmp_path / name).write_bytes(data)
        code, out, err, written = convert(tmp_path / name, "--to", "book")
        assert (code, out, written) == (2, "", None)
        assert err.startswith(f"trihead: {tmp_path / name}: {words}"), err
        assert len(err.splitlines()) == 1
    code, _, err, _ = convert(tmp_path / "none.npz", "--to", "book")
    assert (code, err) == (2, f"trihead: {tmp_path / 'none.npz'}: expected a file, got none\n")
    code, _, err, _ = convert(draw(), "--to", "book", out="out.npz")
    assert (code, err) == (2, f"trihead: OUT: expected a file .safetensors, got {tmp_path / 'out.npz'}\n")


def test_what_is_written_is_read_back_first(convert, monkeypatch):
    """A writer that scrambles is caught before there is a file."""
    scrambled = "shared_tests.layouts.convert.encode"
    monkeypatch.setattr(scrambled, lambda arrays, facts: encode({n: x[::-1] for n, x in arrays.items()}, facts))
    code, _, err, written = convert(layouts.to("bert", draw()), "--to", "book")
    assert (code, written) == (2, None)
    assert err.endswith("expected to read back what was written, got other bits\n")


def test_a_check_names_the_extra_that_it_lacks(convert, monkeypatch):
    monkeypatch.delitem(sys.modules, "shared_tests.subjects._layers_decoders", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not there
    code, out, _, written = convert(draw(), "--from", "book", "--to", "gpt2", "--num-heads", 3, "--check")
    assert code == 0
    assert written
    assert re.search(r"check gpt2: not checked, gpt2: .*; pip install 'trihead\[bert\]'", out)


def test_a_check_needs_a_layer_and_heads(convert, monkeypatch):
    monkeypatch.setitem(sys.modules, "paddle", None)  # as if it were not there
    code, out, _, _ = convert(layouts.to("bert", draw()), "--to", "book-paddle", "--num-heads", 3, "--check")
    assert code == 0
    assert "check book-paddle: not checked, book-paddle: expected its framework to be installed, got: " in out
    code, _, err, written = convert(layouts.to("bert", draw()), "--to", "book", "--check", out="other.safetensors")
    assert (code, written) == (2, None)
    assert err == "trihead: heads: expected their number (--num-heads), got none, and --check needs it\n"


def test_the_list(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trihead", "convert", "--list"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"^ {re.escape(name)} +", said, re.MULTILINE) for name in LAYOUTS)
    assert "weights only: no scaling, relative positions" in said
