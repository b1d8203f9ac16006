"""Functions cut out of the sources, rows of lines that mean the same, and `trihead show`, which prints them."""

import ast
import re
import subprocess
import sys

import pytest
from rich.console import Console

from shared_tests import mirrors, sources
from shared_tests.commands import show as command
from shared_tests.frameworks import FRAMEWORKS, OURS

NAMES = [(package, name) for package in OURS for name in sources.definitions(package)]
EVERY = list(dict.fromkeys(name for _, name in NAMES))


def bare(node):
    """A syntax tree without the docstrings of a function, or of a class and its methods."""
    (node,) = ast.parse(ast.unparse(node)).body
    for one in [node, *(node.body if isinstance(node, ast.ClassDef) else ())]:
        if isinstance(one, sources.Named) and ast.get_docstring(one) is not None and len(one.body) > 1:
            del one.body[0]
    return ast.dump(node)


def texts(name):
    """By package, what has that name."""
    return {p: sources.joined(sources.find(p, name)) for p in OURS if name in sources.definitions(p)}


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_piece_is_the_source_less_its_docstring(package, name):
    for node, piece in zip(sources.definitions(package)[name], sources.find(package, name), strict=True):
        (parsed,) = ast.parse(piece.text).body
        assert ast.dump(parsed) == bare(node)
        original = (sources.folder(package).parent / piece.file).read_text().splitlines()
        kept = [line.strip() for line in piece.text.splitlines()]
        inside = [line.strip() for line in original[piece.first - 1 : piece.last]]
        left = iter(inside)
        assert all(line in left for line in kept)  # in their order
        assert (kept[0], kept[-1]) == (inside[0], inside[-1])
        assert [line for line in inside if "# " in line] == [line for line in kept if "# " in line]


def test_of_a_class_only_what_is_asked_for():
    (piece,) = sources.find("tf_impl", "multihead.MultiHeadAttention", only=["build"])
    assert piece.text.splitlines()[:3] == [
        '@keras.saving.register_keras_serializable(package="trihead")',
        "class MultiHeadAttention(layers.Layer):",
        "    def build(self) -> None:",
    ]
    assert "def" not in piece.text.split("def build", 1)[1]
    (piece,) = sources.find("jax_impl", "fused.FusedDotProductAttention", only=[])
    assert re.fullmatch(r"class FusedDotProductAttention\(DotProductAttention\):\n    block = .*", piece.text)
    assert sources.covered("jax_impl", "fused.FusedDotProductAttention", []) == ["fused.FusedDotProductAttention"]
    assert len(sources.covered("torch_impl", "fused.FusedDotProductAttention")) == 4


def test_a_call_has_one_name():
    for name in ("call", "forward", "__call__"):
        assert sources.called(f"MultiHeadAttention.{name}") == ["multihead.MultiHeadAttention.call"]
        assert sources.find("jax_impl", f"multihead.MultiHeadAttention.{name}")[0].text.startswith("def __call__(")
    assert len(sources.find("tf_impl", "multihead.MultiHeadAttention.call")) == 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("torch_impl", "attention.masked_softmx"), "torch_impl: expected a function, method or class called"),
        (("torch_impl", "attention.masked_softmx"), "found none; nearest: masked_softmax"),
        (("torch_impl", "attention"), "found none"),
        (("jax_impl", "attention.as_lengths"), "jax_impl: expected a function"),
        (("tf_impl", "fused._map", ["x"]), "tf_impl: expected fused._map to have x, found none"),
        (("no_such", "attention.masked_softmax"), "no_such: expected a package among those that Python finds"),
    ],
)
def test_what_is_not_there_is_one_line(wanted, words):
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        sources.find(*wanted)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", EVERY)
def test_rows_hold_every_line_once_and_in_order(name):
    columns = texts(name)
    rows = mirrors.rows(columns)
    for column, text in columns.items():
        assert [row[column].text for row in rows if row[column]] == text.splitlines()
    assert all(any(row.values()) for row in rows)
    longest = max(len(text.splitlines()) for text in columns.values())
    assert longest <= len(rows) <= 1.5 * longest + 1


def marked(row, column, against):
    return [row[column].text[start:end] for start, end in row[column].lacking[against]]


def test_rows_of_lines_that_mean_the_same():
    a = "def f(x):\n    y = torch.relu(x)  # one\n    return y + 1"
    b = "def f(x):\n    check(x)\n    y = jnp.maximum(x)  # two\n    return y + 1"
    rows = mirrors.rows({"a": a, "b": b})
    assert [[line and line.text.strip()[:5] for line in row.values()] for row in rows] == [
        ["def f", "def f"],
        [None, "check"],
        ["y = t", "y = j"],
        ["retur", "retur"],
    ]
    assert rows[1]["b"].alone == {"a"}
    assert rows[1]["b"].lacking == {}
    assert marked(rows[2], "a", "b") == ["torch", "relu"]  # nor the dot, nor the comment
    assert marked(rows[2], "b", "a") == ["jnp", "maximum"]
    assert rows[0]["a"].lacking == {"b": ()}
    assert rows[3]["a"].alone == frozenset()


def test_lines_that_have_nothing_in_common_share_a_row_unmarked():
    (row,) = mirrors.rows({"a": "import torch", "b": "return 1"})
    assert row["a"].alone == {"b"}
    assert row["b"].alone == {"a"}
    assert row["a"].lacking == {}


def test_punctuation_is_marked_between_two_words_only():
    (row,) = mirrors.rows({"a": "x = f(scores, axis=-1, y)", "b": "x = f(scores, g.h(dim)=-1, y)"})
    assert marked(row, "b", "a") == ["g.h(dim"]
    assert marked(row, "a", "b") == ["axis"]
    (row,) = mirrors.rows({"a": "return f(x, y, 1, 2)", "b": "return f(z, w, 1, 2)"})
    assert marked(row, "a", "b") == ["x", "y"]


@pytest.fixture
def printed(monkeypatch):
    """What the command prints on a terminal of some width."""

    def run(width, *names):
        console = Console(width=width, force_terminal=True, color_system=None, record=True, legacy_windows=False)
        monkeypatch.setattr(command, "console", console)
        command.show([*names])
        return console.export_text()

    return run


def test_a_wide_terminal_has_three_columns(printed, capsys):
    head, names, *lines = printed(180, "masked_softmax").splitlines()
    assert head == "attention.masked_softmax"
    assert [name.split(",")[0] for name in re.split(r"  +", names.strip())] == ["PyTorch", "JAX", "TensorFlow"]
    assert re.search(r"positions = torch\.arange.*positions = jnp\.arange.*positions = tf\.range", "\n".join(lines))
    assert all(len(line) <= 180 for line in lines)
    place = next(i for i, line in enumerate(lines) if line.startswith("    wide = torch"))
    assert re.match(r" {8}\S", lines[place + 1])  # the rest of that line, four further in


def test_a_narrow_terminal_has_one_below_the_other(printed, capsys):
    text = printed(100, "masked_softmax")
    places = [text.index(f"\n{framework.title}, {framework.package}/") for framework in FRAMEWORKS]
    assert places == sorted(places)
    for package, source in texts("attention.masked_softmax").items():
        assert source in text, package


def test_marks_are_seen(monkeypatch):
    (_, row, *_) = mirrors.rows(texts("attention.DotProductAttention.score"))
    drawn = command._drawn(row["torch_impl"])
    spans = [drawn.plain[span.start : span.end] for span in drawn.spans if span.style == command.MARK]
    assert spans == ["Tensor", "Tensor"]


def test_the_same_is_printed_once(printed, capsys):
    text = printed(180, "check_fused")
    assert text.count("def check_fused") == 1
    assert "The same in all three, torch_impl/checks.py:" in text


def test_what_one_framework_lacks_is_said(printed, capsys):
    text = printed(180, "as_lengths")
    assert "JAX has nothing of this name." in text
    assert "TensorFlow has nothing of this name." in text
    assert "PyTorch, torch_impl/attention.py:" in text
    assert text.count("\n\n") == 1  # no empty columns


def test_a_name_of_several(printed, capsys):
    text = printed(180, "score", "transpose_qkv")
    assert re.findall(r"^\w+\.[\w.]+$", text, re.MULTILINE) == [
        "attention.ScoredAttention.score",
        "attention.DotProductAttention.score",
        "attention.AdditiveAttention.score",
        "multihead.transpose_qkv",
    ]


def trihead(*arguments, before="pass"):
    run = "from shared_tests.commands.app import main; main()"
    code = f"import sys; {before}; sys.argv = {['trihead', *arguments]!r}; {run}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_command_needs_no_framework():
    modules = [module for framework in FRAMEWORKS for module in framework.modules]
    found = trihead("show", "MultiHeadAttention.call", before=f"sys.modules.update(dict.fromkeys({modules}))")
    assert found.returncode == 0, found.stderr
    assert "\x1b" not in found.stdout
    for source in texts("multihead.MultiHeadAttention.call").values():
        assert source.splitlines()[-1] in found.stdout


def test_an_unknown_name_is_one_line_and_nothing_is_printed():
    found = trihead("show", "masked_softmax", "MultiHeadAtention")
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == (
        "trihead: MultiHeadAtention: expected a function, method or class of the three packages, found none; "
        "nearest: MultiHeadAttention, MultiHeadAttention.call\n"
    )
    assert trihead("show").returncode == 2
