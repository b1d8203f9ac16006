"""Heads are weighed and removed as the page of heads says: ranks, orders, curves, and the digits classifier."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from shared_tests.frameworks import OURS
from shared_tests.harness.find import find
from shared_tests.meta_tests.test_commands import PORT, trihead
from shared_tests.studies import curves, importance
from shared_tests.studies.bench import Shape
from shared_tests.studies.classifier import WEIGHED, Digits
from shared_tests.studies.experiment import gradient
from shared_tests.studies.removal import AGAIN, LEAST, MOST, RANDOM, Removal, points, removable
from shared_tests.studies.speed import speeds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "heads.md").read_text()


class Line:
    """An experiment without a model: 2 layers of 3 heads, each of which is worth its own power of two."""

    name, quality_of, shape = "line", "worth", (2, 3)

    def quality(self, removed):
        return 63 - sum(2**head for head in removed)

    def weighed_again(self):
        return ()


@pytest.fixture(scope="module")
def digits():
    return Digits(find("torch_impl"))


def test_ranks_by_hand():
    assert importance.ranks([7.0, 1.0, 7.0, 2.0, 7.0]).tolist() == [4, 1, 4, 2, 4]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3, 4], [20, 10, 40, 30], 1 - 6 * 4 / (4 * 15)),
        ([1, 2, 3], [1, 10, 1000], 1),
        ([1, 2, 3], [-1, -2, -30], -1),
        ([1, 1, 2], [1, 2, 3], np.sqrt(3) / 2),
    ],
)
def test_rank_correlation_by_hand(left, right, expected):
    assert importance.spearman(left, right) == pytest.approx(expected, abs=1e-15)


def test_rank_correlation_of_equal_numbers_is_none():
    assert np.isnan(importance.spearman([1, 1, 1], [1, 2, 3]))


def test_rankings_by_hand():
    """A head of high entropy is unimportant. A loss that falls without a head counts either way, too."""
    found = dict.fromkeys((importance.LEFT_OUT, importance.ENTROPY), np.array([[0.3, 0.1], [0.2, 0.4]]))
    assert importance.rankings(found) == {"leave one out": [1, 2, 0, 3], "entropy": [3, 0, 2, 1]}
    found[importance.LEFT_OUT] = np.array([[0.3, -0.5], [0.2, 0.4]])
    assert importance.rankings(found) == {
        "leave one out": [1, 2, 0, 3],
        "entropy": [3, 0, 2, 1],
        "|leave one out|": [2, 0, 3, 1],
    }
    assert list(importance.correlations(found)) == [
        ("leave one out", "entropy"),
        ("leave one out", "|leave one out|"),
        ("entropy", "|leave one out|"),
    ]


def test_each_layer_keeps_the_head_that_comes_last():
    assert removable([5, 0, 4, 1, 3, 2], heads=3) == [5, 0, 4, 1]


def test_curves_by_hand():
    """From the whole model's quality, in the order of the ranking, from both its ends, and at random."""
    job = Removal(Line(), seeds=2)
    orders = job.orders({"worth": [0, 1, 2, 3, 4, 5]})
    assert [(one.measure, one.direction) for one in orders] == [
        ("worth", LEAST),
        ("worth", MOST),
        (RANDOM, "seed 0"),
        (RANDOM, "seed 1"),
    ]
    found = list(job.curves(orders))
    assert len(found) == job.number(orders)
    assert [one.removed for one in found] == [[0, 1, 2, 3, 4]] * 4
    assert found[0].quality == [63, 62, 60, 52, 36]  # without 0, 1, 3, 4
    assert found[1].quality == [63, 31, 15, 11, 9]  # without 5, 4, 2, 1
    assert found[2].quality != found[3].quality
    assert points(Line()) == [0, 1, 2, 3, 4]


def test_curves_after_training_are_those_of_the_gradient_and_of_random_orders():
    job = Removal(Line(), 1, retrained=lambda removed: -len(removed), epochs=2)
    orders = job.orders({"gradient": range(6), "entropy": range(6)})
    trained = [one for one in job.curves(orders) if one.epochs]
    assert [one.order.measure for one in trained] == ["gradient", "gradient", RANDOM]
    assert trained[0].quality == [0, -1, -2, -3, -4]
    assert job.number(orders) == 5 + 3


def test_table_and_figure_of_curves():
    job = Removal(Line(), seeds=3)
    found = list(job.curves(job.orders({"worth": [0, 1, 2, 3, 4, 5]})))
    titles, rows = curves.table(found)
    assert titles == ["heads removed by", "", "0", "1", "2", "3", "4"]
    assert rows[0] == ["worth", LEAST, "63.000", "62.000", "60.000", "52.000", "36.000"]
    random = np.array([one.quality for one in found[2:]])
    assert rows[2][1:4] == ["mean of 3 seeds", "63.000", f"{random[:, 1].mean():.3f}"]
    assert [row[3] for row in rows[3:]] == [f"{random[:, 1].min():.3f}", f"{random[:, 1].max():.3f}"]
    drawn = curves.draw(found, "worth", ".svg").decode()
    for text in ("worth", "least important first", "most important first", "at random, 3 seeds", "heads removed"):
        assert f"<!-- {text} -->" in drawn


def test_the_golden_classifier_is_as_good_as_the_page_says(digits):
    output, _ = digits.subject.forward(digits.whole[0], *[digits.rows] * 3, None)
    found = (output.mean(axis=1) @ digits.head["head.weight"].T + digits.head["head.bias"]).argmax(axis=1)
    assert (found == digits.labels).sum() == 345  # of 360
    assert digits.quality(()) == (found == digits.labels)[120:].mean() == 232 / 240


@pytest.mark.parametrize("removed", [(), (2, 5)])
def test_importance_is_what_a_gate_does_to_the_loss_of_each_image(digits, removed):
    """Against differences of the loss with the gate of one head at 1 + h and 1 - h; on the pruned layer too."""
    rest, trial = Digits(digits.subject), digits.trial(removed)
    found = digits.subject.head_importance(*digits.pruned(removed), one_by_one(trial))
    step, slopes = 1e-5, np.zeros((trial.config.num_heads, WEIGHED))
    for head in range(trial.config.num_heads):
        for sign in (1, -1):
            gated = {name: array.copy() for name, array in trial.parameters.items()}
            gated["W_o.weight"][:, 8 * head : 8 * head + 8] *= 1 + sign * step
            rest.whole = [digits.subject.build(trial.config, gated, "float64")]
            slopes[head] += sign * rest.losses(()) / (2 * step)
    np.testing.assert_allclose(found, np.abs(slopes).mean(axis=1), rtol=1e-6)


def one_by_one(trial):
    return [
        (x[None], x[None], x[None], None, slope[None]) for x, slope in zip(trial.queries, trial.cotangent, strict=True)
    ]


def test_pruned_for_real_is_masked(digits):
    """The loss and the accuracy without heads are those of the whole layer with columns of 0 in W_o."""
    masked = Digits(digits.subject)
    weights = {name: array.copy() for name, array in digits.weights[0].items()}
    weights["W_o.weight"].reshape(64, 8, 8)[:, [0, 3, 6]] = 0
    masked.whole = [digits.subject.build(digits.config, weights, "float64")]
    (layer, _) = digits.pruned((6, 0, 3))[0]
    assert layer.num_heads == 5
    np.testing.assert_allclose(digits.losses((6, 0, 3)), masked.losses(()), rtol=1e-12)
    assert digits.quality((0, 3, 6)) == masked.quality(()) < digits.quality(())


def test_weighing_again_takes_the_least_important_of_those_left(digits):
    order = list(digits.weighed_again())
    assert sorted(order) == list(range(8))
    first = gradient(digits.subject, digits.whole, digits.recorded())[0]
    assert order[0] == first.argmin()
    left = [head for head in range(8) if head not in order[:3]]
    trial = digits.trial(order[:3])
    again = digits.subject.head_importance(*digits.pruned(order[:3]), one_by_one(trial))
    assert order[3] == left[again.argmin()]


def test_training_goes_on_from_the_pruned_layer(digits):
    """No epochs leave the accuracy as it is, and some repair it."""
    images = digits.rows[:WEIGHED], digits.labels[:WEIGHED]
    assert digits.retrained((0, 1, 2, 3, 4), images, epochs=0) == digits.quality((0, 1, 2, 3, 4))
    assert digits.retrained((0, 1, 2, 3, 4), images, epochs=5) > digits.quality((0, 1, 2, 3, 4)) + 0.05


@pytest.mark.parametrize("name", OURS)
def test_a_pruned_layer_is_timed_beside_the_whole(name):
    found = list(speeds(name, Shape(2, 6, 8, 4), rounds=1))
    assert [(one.kept, one.of, one.parameters) for one in found] == [(4, 4, 256), (2, 4, 128)]
    assert found[0].ratio == 1
    assert found[1].ratio > 0


def test_command_importance(tmp_path):
    """By the three, of whom each is within the gate; what is printed is what is written."""
    result = trihead("heads", "importance", "digits", "--json", tmp_path / "x.json")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert (found["what"], found["subject"]) == ("digits", "torch_impl")
    assert list(found["measures"]) == ["gradient", "leave one out", "entropy", "confidence"]
    assert all(np.shape(numbers) == (1, 8) for numbers in found["measures"].values())
    assert list(found["by_subject"]) == list(found["agreement"]) == list(OURS)
    assert len(found["rank_correlation"]) == 6
    row = " ".join(f"{numbers[0][2]:.4f}" for numbers in found["measures"].values())
    assert f"1 3 {row}" in " ".join(result.stdout.split())
    for name, words in found["agreement"].items():
        assert float(words.split("σ")[0].split()[-1]) < 8
        assert f"gradient by {name}: {words}" in result.stdout
    for line in result.stdout.partition("gradient by")[0].splitlines():
        assert line.rstrip() in PAGE
    leave_out = np.array(found["measures"]["leave one out"][0])
    digits = Digits(find("torch_impl"))
    assert leave_out[4] == pytest.approx(digits.losses((4,)).mean() - digits.losses(()).mean(), rel=1e-9)


def test_command_study(tmp_path):
    """A short one, with training: its numbers, and its figure."""
    options = ["--seeds", 2, "--epochs", 1, "--plot", tmp_path / "x.svg", "--json", tmp_path / "x.json"]
    result = trihead("heads", "study", "digits", *options)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    found = json.loads((tmp_path / "x.json").read_text())
    assert [(one["measure"], one["epochs"]) for one in found["curves"]] == [
        *((measure, 0) for measure in found["measures"] for _ in (LEAST, MOST)),
        (AGAIN, 0),
        *[(RANDOM, 0)] * 2,
        *[("gradient", 1)] * 2,
        *[(RANDOM, 1)] * 2,
    ]
    assert {one["quality"][0] for one in found["curves"] if not one["epochs"]} == {232 / 240}
    least, most = found["curves"][:2]
    assert all(one["removed"] == list(range(8)) and len(one["heads"]) == 7 for one in found["curves"])
    assert {layer for one in found["curves"] for layer, _ in one["heads"]} == {1}
    assert most["heads"][::-1][:-1] == least["heads"][1:]
    assert "accuracy by torch_impl" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if " first " in line and "trained" not in line]
    assert len(rows) == 9
    page = [line.split() for line in PAGE.splitlines()]
    assert all(row in page for row in rows)
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


BAD = [
    (["importance", "book"], "WHAT: expected digits or minilm, got book"),
    (
        ["importance", "digits", "--subject", f"{PORT}:MyPort"],
        "--subject: expected one that offers head_importance",
    ),
    (
        ["importance", "digits", *["--subject", "torch_impl"] * 2],
        "--subject: expected different names, got torch_im",
    ),
    (
        ["importance", "digits", "--json", "no/such/x.json"],
        "--json: expected a file in an existing folder, got no",
    ),
    (["study", "book"], "WHAT: expected digits, minilm or speed, got book"),
    (["study", "digits", "--plot", "x.txt"], "--plot: expected a file .png, .svg, .pdf, got x.txt"),
    (["study", "speed", "--plot", "x.png"], "--plot: expected with digits or minilm, got speed"),
    (
        ["study", "speed", "--subject", "keras_builtin"],
        "--subject: expected one of torch_impl, jax_impl, tf_impl, got",
    ),
    (["study", "speed", "--seeds", "3"], "--seeds: expected with digits or minilm, got speed"),
    (["study", "minilm", "--epochs", "3"], "--epochs: expected with digits, got minilm"),
    (["study", "digits", "--rounds", "3"], "--rounds: expected with speed, got digits"),
    (["study", "digits", "--subject", "nobody"], "subject: expected one of bert_builtin, "),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD, ids=[words for _, words in BAD])
def test_bad_use_is_one_line(tmp_path, arguments, expected):
    result = trihead("heads", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"trihead: {expected}")
    assert len(result.stderr.splitlines()) == 1


def test_without_scikit_learn_one_line_says_what_to_do(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ModuleNotFoundError(\"No module named 'sklearn'\")")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = trihead("heads", "study", "digits", env=os.environ | {"PYTHONPATH": paths})
    assert result.returncode == 2
    assert result.stderr.startswith("trihead: --epochs: expected scikit-learn, which has the images to train on (pip")
