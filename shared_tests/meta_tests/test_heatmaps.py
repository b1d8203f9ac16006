"""Heatmaps show the numbers that they are given, where they belong."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_tests import show_heads
from shared_tests.harness.rounding import Expected
from shared_tests.meta_tests.test_commands import PORT, trihead
from shared_tests.storage import write_arrays
from shared_tests.studies import figures
from shared_tests.studies.figures import KINDS, as_bytes
from shared_tests.studies.heatmaps import furthest, show_frameworks

ROOT = Path(__file__).parents[2]
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(6), (2, 5, 4))
"""(2 sequences, 5 heads, 4 queries, 6 keys), as in the book's call."""


def panels(figure, rows, heads):
    return np.array(figure.axes[: rows * heads]).reshape(rows, heads)


def data(panel):
    return panel.images[0].get_array()


def words(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_a_panel_for_each_row_and_head_shows_its_weights():
    figure = show_heads(WEIGHTS)
    assert len(figure.axes) == 2 * 5 + 1  # one colour bar
    for (row, head), panel in np.ndenumerate(panels(figure, 2, 5)):
        np.testing.assert_array_equal(data(panel), WEIGHTS[row, head])
        assert panel.get_title() == (f"Head {head + 1}" if row == 0 else "")
        assert panel.get_xlim() == (-0.5, 5.5)
        assert panel.get_ylim() == (3.5, -0.5)  # the first query is on top
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("Keys", "Queries")


def test_all_panels_have_one_scale():
    figure = show_heads(WEIGHTS)
    scales = {(panel.images[0].norm.vmin, panel.images[0].norm.vmax) for panel in figure.axes[:10]}
    assert scales == {(0, WEIGHTS.max())}
    assert figure.axes[10].get_ylim() == (0, WEIGHTS.max())
    assert figure.axes[10].get_ylabel() == "attention weight"


@pytest.mark.parametrize("heads", [1, 5, 12])
def test_the_lines_stand_after_the_last_valid_key(heads):
    lengths = np.array([[1, 2, 6, 9], [0, -3, 3, 5]])
    figure = show_heads(np.full((2, heads, 4, 6), 1 / 6), valid_lens=lengths)
    for (row, _), panel in np.ndenumerate(panels(figure, 2, heads)):
        (line,) = panel.patches
        np.testing.assert_array_equal(line.get_data().values, [[0.5, 1.5, 5.5, 5.5], [-0.5, -0.5, 2.5, 4.5]][row])
        np.testing.assert_array_equal(line.get_data().edges, np.arange(5) - 0.5)
    (line,) = show_heads(WEIGHTS, valid_lens=[3, 2]).axes[5].patches
    np.testing.assert_array_equal(line.get_data().values, [1.5] * 4)
    assert not show_heads(WEIGHTS).axes[0].patches


def test_words_stand_at_the_left_and_below():
    """As they are: a dollar begins no formula."""
    queries, keys = ["I", "pay", "$5", "$"], list("abcdef")
    figure = show_heads(WEIGHTS, query_labels=queries, key_labels=keys, row_labels=["x_1", "$y$"], titles=list("vwxyz"))
    grid = panels(figure, 2, 5)
    assert words(grid[0, 0].yaxis) == words(grid[1, 0].yaxis) == queries
    assert words(grid[1, 4].xaxis) == keys
    assert words(grid[0, 0].xaxis) == words(grid[1, 1].yaxis) == []
    assert [panel.get_ylabel() for panel in grid[:, 0]] == ["x_1", "$y$"]
    assert [panel.get_title() for panel in grid[0]] == list("vwxyz")
    assert not any(text.get_parse_math() for text in grid[0, 0].get_yticklabels())
    as_bytes(figure, ".svg")


def test_each_row_may_have_words_of_its_own():
    keys = [list("abcdef"), list("ghijkl")]
    grid = panels(show_heads(WEIGHTS, key_labels=keys), 2, 5)
    assert [words(panel.xaxis) for panel in grid[:, 3]] == keys


def test_words_have_room():
    """The figure grows where there are many."""
    small, large = (show_heads(np.ones((1, 12, n, n)), key_labels=["word"] * n) for n in (3, 30))
    assert small.get_figwidth() < 9
    assert large.get_figwidth() > 12 * 30 * 0.115


def test_nan_is_drawn_and_takes_no_part_in_the_scale():
    weights = WEIGHTS.copy()
    weights[1, 2, 0] = np.nan
    figure = show_heads(weights)
    assert np.ma.getmaskarray(data(figure.axes[7]))[0].all()
    assert figure.axes[0].images[0].norm.vmax == weights[np.isfinite(weights)].max()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"attention_weights": WEIGHTS[0]},
            "attention_weights: expected floats of shape (rows, heads, queries, keys)",
        ),
        ({"valid_lens": [3]}, "valid_lens: expected (rows,) or (rows, queries) of (2, 5, 4, 6), got shape (1,)"),
        ({"valid_lens": [3.0, 2.0]}, "valid_lens: expected integers, got float64"),
        ({"titles": ["one"]}, "titles: expected 5 texts, got 1"),
        ({"row_labels": "ab"}, "row_labels: expected 2 texts, got ab"),
        ({"query_labels": list("abc")}, "query_labels: expected 4 texts, got 3"),
        ({"key_labels": []}, "key_labels: expected 6 texts, got 0"),
        ({"key_labels": [list("abcdef")]}, "key_labels: expected a list for each of 2 rows, got 1"),
        ({"key_labels": "abcdef"}, "key_labels: expected 6 texts, got abcdef"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, expected):
    with pytest.raises((ValueError, TypeError)) as refused:
        show_heads(**{"attention_weights": WEIGHTS} | arguments)
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)


def test_errors_by_hand():
    """In sigma: of 1 and -2 it is -2, of 3 and 1 it is 3. Where there is no sigma any error is infinite; NaN is too."""
    truth = Expected(np.array([1.0, 1.0, 0.0, 0.0, 1.0]), np.array([0.1, 0.1, 0.0, 0.0, 0.1]))
    answers = np.array([[1.1, 1.3, 0.0, 0.0, 1.0], [0.8, 1.1, 0.0, -1e-30, np.nan]])
    np.testing.assert_allclose(furthest(answers, truth), [-2, 3, np.nan, -np.inf, np.inf])


def test_the_last_row_is_the_error_in_sigma():
    right, sigma = WEIGHTS[0], np.full((5, 4, 6), 1e-8)
    right[:, :, 4:] = sigma[:, :, 4:] = 0
    a, b = right + 2 * sigma, right - 3 * sigma
    figure = show_frameworks({"a": a, "b": b}, Expected(right, sigma), valid_lens=np.array([4, 4, 4, 4]))
    grid = panels(figure, 3, 5)
    assert [panel.get_ylabel() for panel in grid[:, 0]] == ["a", "b", "largest error"]
    for head in range(5):
        np.testing.assert_array_equal(data(grid[0, head]), a[head])
        np.testing.assert_array_equal(data(grid[1, head]), b[head])
        errors = data(grid[2, head])
        np.testing.assert_allclose(errors[:, :4].astype(float), -3, rtol=1e-6)
        assert np.ma.getmaskarray(errors)[:, 4:].all()
    scale = grid[2, 0].images[0].norm
    assert (scale.vmin, scale.vmax) == (-np.abs(scale.vmax), pytest.approx(3, rel=1e-6))
    assert [len(panel.patches) for panel in grid[:, 0]] == [1, 1, 0]


def test_colours_of_errors_end_at_the_gate():
    """What has weight behind the mask, where no noise is predicted, is beyond it."""
    right, sigma = WEIGHTS[0].copy(), np.full((5, 4, 6), 1e-8)
    right[:, :, 5] = sigma[:, :, 5] = 0
    wrong = right.copy()
    wrong[2, 1, 5] = 1e-9
    panel = panels(show_frameworks({"a": right + 9 * sigma, "b": wrong}, Expected(right, sigma)), 3, 5)[2, 2]
    assert panel.images[0].norm.vmax == 8
    assert data(panel)[1, 5] == 16
    assert np.ma.getmaskarray(data(panel))[2, 5]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, "answers: expected attention weights of at least one subject, got none"),
        ({"a": WEIGHTS[0], "b": WEIGHTS[0, 1:]}, "b: expected attention weights (5, 4, 6), got (4, 4, 6)"),
    ],
)
def test_answers_that_cannot_be_compared(answers, expected):
    with pytest.raises(ValueError, match=f"^{expected}".replace("(", r"\(").replace(")", r"\)")):
        show_frameworks(answers, Expected(WEIGHTS[0], WEIGHTS[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_figure_is_the_same_file(kind):
    first, second = (as_bytes(show_heads(WEIGHTS, valid_lens=[3, 2]), kind) for _ in range(2))
    assert first == second
    assert first != as_bytes(show_heads(WEIGHTS, valid_lens=[3, 3]), kind)


def test_without_matplotlib_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^matplotlib: expected .* \(pip install 'trihead\[plot\]'\), got none$"):
        show_heads(WEIGHTS)


def test_matplotlib_is_loaded_when_something_is_drawn():
    code = "import sys, shared_tests, shared_tests.commands.app; shared_tests.show_heads; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "shared_tests.studies.heatmaps" in result.stdout
    assert "matplotlib" not in result.stdout


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_show_the_book_by_one_port(tmp_path, kind, start):
    """With nothing but NumPy and matplotlib."""
    out = tmp_path / f"heads.{kind}"
    result = trihead("heads", "show", "book", out, "--subject", f"{PORT}:MyPort")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert out.read_bytes().startswith(start)


def test_show_the_digits_by_the_three(tmp_path):
    """The last row has words of its own, which an SVG has as text in a comment."""
    result = trihead("heads", "show", "digits", tmp_path / "x.svg", "--row", 2, "--head", 4, "--head", 1)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "x.svg").read_text()
    for word in ("torch_impl", "jax_impl", "tf_impl", "largest error", "Head 4", "Head 1"):
        assert f"<!-- {word} -->" in text
    assert "<!-- Head 2 -->" not in text


def test_show_a_file(tmp_path):
    source = tmp_path / "mine.safetensors"
    write_arrays(source, {"attention_weights": WEIGHTS.astype(np.float32), "valid_lens": np.array([3, 2])})
    texts = ["--queries", "who eats what $", "--keys", "a b c d e f"]
    result = trihead("heads", "show", source, tmp_path / "x.svg", "--row", 2, "--head", 3, *texts)
    assert result.returncode == 0, result.stderr
    drawn = show_heads(
        WEIGHTS[1:, 2:3].astype(np.float32),
        valid_lens=[2],
        query_labels=["who", "eats", "what", "$"],
        key_labels=list("abcdef"),
        titles=["Head 3"],
    )
    assert (tmp_path / "x.svg").read_bytes() == as_bytes(drawn, ".svg")


BAD = [
    (["book", "x.txt"], "OUT: expected a file .png, .svg, .pdf, got x.txt"),
    (["book", "no/such/x.png"], "OUT: expected a file in an existing folder, got no/such/x.png"),
    (["boook", "x.png"], "WHAT: expected book, digits, minilm or a file .safetensors, got boook"),
    (["book", "x.png", "--sentence", "a b"], "--sentence: expected with minilm, got book"),
    (["book", "x.png", "--subject", "nobody"], "subject: expected one of bert_builtin, "),
    (["book", "x.png", "--subject", f"{PORT}:MyPort", "--head", "6"], "--head: expected a number from 1 to 5, got 6"),
    (["book", "x.png", "--subject", f"{PORT}:MyPort", "--row", "0"], "--row: expected a number from 1 to 2, got 0"),
    (["book", "x.png", "--row", "1", "--row", "2"], "--row: expected one, of 3 subjects, got 2"),
    (["book", "x.png", *["--subject", "torch_impl"] * 2], "--subject: expected different names, got torch_impl, torch"),
    (["book", "x.png", "--subject", f"{PORT}:MyPort", "--keys", "a b"], "key_labels: expected 6 texts, got 2"),
    (["none.safetensors", "x.png"], "[Errno 2] No such file or directory: 'none.safetensors'"),
    (["bad.safetensors", "x.png"], "bad.safetensors: expected a safetensors file, got one that is truncated or"),
    (["other.safetensors", "x.png"], "other.safetensors: expected an array attention_weights, got weights"),
    (["other.safetensors", "x.png", "--subject", "jax_impl"], "--subject: expected with book, digits, minilm, got oth"),
    (["rank3.safetensors", "x.png"], "attention_weights: expected floats of shape (rows, heads, queries, keys), each"),
    (["book", "x.png", "--subject", "port.py:Breaks"], "Breaks: expected attention weights, got RuntimeError: no luck"),
    (
        ["book", "x.png", "--subject", "port.py:Narrow"],
        "Narrow: expected attention weights (2, 5, 4, 6), got (2, 4,",
    ),
    (["book", "x.png", "--subject", "port.py:Silent"], "subject: expected one that claims the case 'book', per head, "),
]
PORTS = """
class Breaks:
    def build(self, config, weights, dtype): pass
    def forward(self, *x): raise RuntimeError("no luck")
class Narrow(Breaks):
    def forward(self, model, queries, keys, values, lengths): return queries, queries[..., :6]
class Silent(Breaks):
    attention_weights = "none"
"""


@pytest.mark.parametrize(("arguments", "expected"), BAD, ids=[words for _, words in BAD])
def test_bad_use_is_one_line_and_no_file(tmp_path, arguments, expected):
    (tmp_path / "port.py").write_text(PORTS)
    (tmp_path / "bad.safetensors").write_bytes(b"not one")
    write_arrays(tmp_path / "other.safetensors", {"weights": WEIGHTS})
    write_arrays(tmp_path / "rank3.safetensors", {"attention_weights": WEIGHTS[0]})
    before = sorted(tmp_path.iterdir())
    result = trihead("heads", "show", *arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert result.returncode == 2
    assert result.stderr.startswith(f"trihead: {expected}")
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
