"""A trained BERT, where its package is installed: the tutorial runs, and its layers are cases that tell faults."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared_tests import judge
from shared_tests.cases import minilm
from shared_tests.cases.case import draw
from shared_tests.cases.table import MINILM, REAL
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.studies.examples import trained_bert
from shared_tests.subjects import _minilm

ROOT = Path(__file__).parents[2]
GUIDE, HEADS = ((ROOT / "docs" / name).read_text() for name in ("real-model.md", "heads.md"))
installed = pytest.mark.skipif(not REAL, reason=f"{minilm.PACKAGE} is not installed")


def without_numbers(text):
    return re.sub(r" *\d+\.\d+(e-\d+|σ)", " x", text)


@installed
def test_the_tutorial_prints_what_the_guide_says(tmp_path):
    command = [sys.executable, ROOT / "docs" / "real_model.py", "docs/real-model.png"]
    (tmp_path / "docs").mkdir()
    paths = os.pathsep.join(map(os.path.abspath, filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    environment = os.environ | {"PYTHONPATH": paths}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "HOLDS 442,368 comparisons" in result.stdout
    assert without_numbers(result.stdout.rstrip()) in without_numbers(GUIDE)
    assert (tmp_path / "docs" / "real-model.png").stat().st_size > 10_000


@installed
def test_a_wrong_reading_of_a_trained_layer_is_seen():
    """Its matrices are square: transposed, or with two of its heads exchanged, they fit as well."""
    trial = draw("MiniLM, layer 0", REAL["MiniLM, layer 0"], "float64")
    right = oracle.forward(trial)["output"]
    query = trial.parameters["W_q.weight"]
    for wrong in (query.T, np.roll(query, 32, axis=0)):
        changed = replace(trial, parameters=trial.parameters | {"W_q.weight": wrong})
        assert not within_gate(oracle.forward(changed)["output"].value, right).holds


@installed
def test_a_trained_layer_is_a_case():
    assert len(REAL) == minilm.LAYERS
    report = judge(find("torch_impl"), cases={"MiniLM, layer 5": REAL["MiniLM, layer 5"]})
    assert report.holds, str(report)
    assert "over 1 case" in report.verdict()


@installed
def test_attention_of_another_framework_takes_the_place_of_its_own_and_leaves_it():
    """Without a head the embeddings are others; afterwards the model is as it was."""
    model = _minilm.MiniLM()
    tokens = model.tokens(["Attention is all you need.", "Too short."])
    assert model.words(tokens)[1] == ["[CLS]", "too", "short", ".", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert _minilm.lengths(tokens).tolist() == [8, 5]
    before = model.run(tokens)
    weights = [minilm.layer(name) for name in minilm.names()]
    ours = model.run(tokens, [_minilm.of_subject(find("torch_impl"), MINILM, own) for own in weights])
    np.testing.assert_allclose(ours.embeddings, before.embeddings, rtol=0, atol=1e-14)
    for name in ("inputs", "outputs", "attention_weights"):
        for mine, theirs in zip(getattr(ours, name), getattr(before, name), strict=True):
            np.testing.assert_allclose(mine[0], theirs[0], rtol=0, atol=1e-12)  # padding may differ
    weights[3]["W_o.weight"] = weights[3]["W_o.weight"].copy()
    weights[3]["W_o.weight"][:, :32] = 0
    less = model.run(tokens, [_minilm.of_subject(find("torch_impl"), MINILM, own) for own in weights])
    assert np.abs(less.embeddings - before.embeddings).max() > 1e-4
    np.testing.assert_array_equal(model.run(tokens).embeddings, before.embeddings)


@installed
def test_embeddings_have_gradients_through_a_layer_of_ours():
    model, layers = _minilm.MiniLM(), []
    for name in minilm.names():
        layers.append(find("torch_impl").build(MINILM, minilm.layer(name), "float64")[0])
    attend = [lambda x, lengths, layer=layer: layer(x, x, x, lengths, need_weights=True) for layer in layers]
    model.embed(model.tokens(["Attention is all you need."]), attend)[0, 0].backward()
    assert all(layer.W_q.weight.grad.abs().max() > 0 for layer in layers)


@installed
def test_show_a_sentence(tmp_path):
    """Rows are layers, words stand beside them, and the numbers are Hugging Face's."""
    example = trained_bert("Attention is all you need.")
    assert example.words == ["[CLS]", "attention", "is", "all", "you", "need", ".", "[SEP]"]
    run = _minilm.MiniLM()
    theirs = run.run(run.tokens(["Attention is all you need."])).attention_weights
    found = example.attention_weights(find("torch_impl"))
    np.testing.assert_allclose(found, np.concatenate(theirs), rtol=0, atol=1e-12)
    choice = ["--row", "6", "--head", "2", "--sentence", "Attention is all you need.", "--subject", "torch_impl"]
    command = [sys.executable, "-m", "shared_tests", "heads", "show", "minilm", tmp_path / "x.svg", *choice]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{tmp_path / 'x.svg'}\n", "")
    text = (tmp_path / "x.svg").read_text()
    for word in ("Layer 6", "Head 2", "attention", "need"):
        assert f"<!-- {word} -->" in text


@installed
def test_the_page_of_heads_prints_what_it_says(capsys):
    block = next(block for block in HEADS.split("```python\n") if "trained_bert" in block)
    code, printed = block.split("```")[0], block.split("```text\n")[1].split("```")[0]
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_the_page_of_heads_draws_from_tensors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(block for block in HEADS.split("```python\n") if "savefig" in block)
    exec(block.split("```")[0], {})
    assert (tmp_path / "heads.png").stat().st_size > 1000


@pytest.mark.skipif(bool(REAL), reason=f"{minilm.PACKAGE} is installed")
def test_without_the_package_there_are_no_such_cases():
    assert minilm.names() == []
    for function in (minilm.sentence, lambda: trained_bert("")):
        with pytest.raises(ImportError, match=r"pip install 'trihead\[real-model\]'"):
            function()
