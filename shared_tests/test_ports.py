"""The suite, tested: a right port holds, and every one of these wrong ones fails."""

from pathlib import Path

import pytest

from shared_tests.harness.case import CASES
from shared_tests.harness.judge import judge, judge_all
from shared_tests.harness.refusals import REFUSALS
from shared_tests.harness.report import Report
from shared_tests.harness.subject import Subject, find

PORT = Path(__file__).parent.parent / "docs" / "my_port.py"
SOURCE = PORT.read_text()

SPLIT = "q, k, v = (split"
MUTANTS = {
    "no scale": ("/ np.sqrt(q.shape[-1], dtype=q.dtype)", ""),
    "scale of the whole width": ("np.sqrt(q.shape[-1]", "np.sqrt(heads * q.shape[-1]"),
    "mask off by one": (">= per_query", "> per_query"),
    "fill of -1e6": ("np.finfo(q.dtype).min", "-1e6"),
    "fill of -1e9": ("np.finfo(q.dtype).min", "-1e9"),
    "fill of -1e30": ("np.finfo(q.dtype).min", "-1e30"),
    "a mask only if any length is positive": (
        "if valid_lens is not None",
        "if valid_lens is not None and valid_lens.any()",
    ),
    "leaves without a word": (SPLIT, "raise SystemExit(0); " + SPLIT),
    "fill of -1e4": ("np.finfo(q.dtype).min", "-1e4"),
    "fill of minus infinity": ("np.finfo(q.dtype).min", "-np.inf"),
    "mask after the softmax": ("context = attention @ v", "context = attention * ~masked @ v"),
    "lengths of the first query": ("per_query[:, None, :, None]", "per_query[:, None, :1, None]"),
    "lengths of the next entry": ("per_query[:, None, :, None]", "np.roll(per_query, 1, axis=0)[:, None, :, None]"),
    "lengths tiled over heads": (
        "per_query[:, None, :, None]",
        "np.tile(per_query, (heads, 1)).reshape(len(per_query), heads, -1)[..., None]",
    ),
    "lengths that wrap": (">= per_query", ">= per_query % (k.shape[2] + 1)"),
    "negative lengths from the end": (">= per_query", ">= np.where(per_query < 0, k.shape[2] + per_query, per_query)"),
    "heads interleaved": (
        "x.reshape(batch, length, heads, hidden // heads).swapaxes(1, 2)",
        "x.reshape(batch, length, hidden // heads, heads).transpose(0, 3, 1, 2)",
    ),
    "heads reversed on the way out": ("context.swapaxes(1, 2)", "context[:, ::-1].swapaxes(1, 2)"),
    "softmax over queries": ("axis=-1", "axis=-2"),
    "no maximum taken away": ("scores - scores.max(axis=-1, keepdims=True)", "scores"),
    "softmax in float32": ("np.exp(scores -", "np.exp(scores.astype(np.float32) -"),
    "inputs through float32": ("return x.reshape", "x = x.astype(np.float32).astype(x.dtype); return x.reshape"),
    "weights in half precision": ("@ v", ".astype(np.float16).astype(q.dtype) @ v"),
    "queries in 11 bits": ("scores = q @", "scores = q.astype(np.float16).astype(q.dtype) @"),
    "values of the next key": ("@ v", "@ np.roll(v, 1, axis=2)"),
    "output weight transposed": ('project(joined, "W_o")', 'joined @ weights["W_o.weight"]'),
    "no output bias": ("in weights else", 'in weights and name != "W_o" else'),
    "no query bias": ("in weights else", 'in weights and name != "W_q" else'),
    "weights averaged over heads": (
        '"W_o"), attention',
        '"W_o"), attention.mean(axis=1, keepdims=True) * np.ones_like(attention)',
    ),
    "weights of other heads": ('"W_o"), attention', '"W_o"), attention[:, ::-1]'),
    "weights without heads": ('"W_o"), attention', '"W_o"), attention.reshape(-1, *attention.shape[2:])'),
    "output in float64": ('"W_o"), attention', '"W_o").astype(np.float64), attention'),
    "softened denominator": ("powers.sum(axis=-1, keepdims=True)", "(powers.sum(axis=-1, keepdims=True) + 1e-6)"),
    "one NaN": ("joined =", "context[context == context.max(initial=0)] = np.nan; joined ="),
    "writes into the queries": (SPLIT, "queries *= -1; queries *= -1 + 1e-3; " + SPLIT),
    "writes into the lengths": (">= per_query", ">= np.minimum(per_query, k.shape[2], out=per_query)"),
    "writes into the weights": (SPLIT, 'weights["W_o.weight"] *= 1 + 1e-3; ' + SPLIT),
    "another answer every time": (
        SPLIT,
        "self.n = not getattr(self, 'n', True); queries = queries * queries.dtype.type(1 + 1e-3 * self.n); " + SPLIT,
    ),
    "a mask kept for the next call": (
        "scores = np.where(masked",
        "weights.setdefault(f'mask {masked.shape}', masked); masked = weights[f'mask {masked.shape}']\n"
        "            scores = np.where(masked",
    ),
    "no room for an empty batch": (SPLIT, "queries[0]; " + SPLIT),
}
"""What is wrong: the text of docs/my_port.py that is replaced, and by what."""


def verdict(path):
    return Report(["MyPort"], judge_all([find(f"{path}:MyPort")]))


def test_the_right_port_holds():
    report = verdict(PORT)
    assert report.holds, report.failures
    assert report.compared > 100_000


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_port_fails(tmp_path, name):
    old, new = MUTANTS[name]
    assert old in SOURCE
    (tmp_path / "port.py").write_text(SOURCE.replace(old, new))
    report = verdict(tmp_path / "port.py")
    assert not report.holds
    assert "FAILS: MyPort: clauses" in report.verdict()


def test_what_is_not_offered_is_not_passed():
    report = verdict(PORT)
    assert all(report.cell(clause, "MyPort") is None for clause in ("2.5", "3.5", "4.1", "4.2", "5.1", "6"))


def test_a_port_with_wrong_gradients_and_stages_fails(subjects):
    """The capabilities that are optional are judged where they are there."""

    class Wrong(type(subjects[0])):
        name = "wrong"

        def gradients(self, model, *arrays):
            return {name: -array for name, array in super().gradients(model, *arrays).items()}

        def stages(self, model, *arrays):
            stages = super().stages(model, *arrays)
            return stages | {"scores": stages["scores"] * 1.0001}

    report = Report(["wrong"], judge([Wrong()], {"bias": CASES["bias"]}))
    broken = {finding.clause for finding in report.failures}
    assert broken == {"2.5", "4.1", "4.2"}


def test_a_missing_gradient_fails(subjects):
    class Short(type(subjects[0])):
        name = "short"

        def gradients(self, model, *arrays):
            gradients = super().gradients(model, *arrays)
            del gradients["W_k.weight"]
            return gradients

    report = Report(["short"], judge([Short()], {"bias": CASES["bias"]}))
    failure, _ = report.failures  # in float64 and in float32
    assert (failure.clause, failure.verdict.what, failure.verdict.note) == ("4.2", "W_k.weight", "missing")


def test_two_subjects_that_part_fail_as_a_pair():
    """Both are named, even where each is within the gate of the oracle."""

    class Shifted(Subject):
        name = "shifted"
        port = find(f"{PORT}:MyPort")

        def build(self, *arguments):
            return self.port.build(*arguments)

        def forward(self, *arguments):
            output, weights = self.port.forward(*arguments)
            return output * (1 + 1e-7), weights

    findings = judge([find(f"{PORT}:MyPort"), Shifted()], {"bias": CASES["bias"]})
    pairs = {(f.subject, f.verdict.what) for f in findings if f.clause == "2.3" and f.verdict.failed}
    assert pairs == {
        ("MyPort", "output of MyPort and shifted"),
        ("shifted", "output of MyPort and shifted"),
        ("shifted", "output of shifted and oracle"),
    }


def test_the_table_of_refusals_is_long_and_has_no_twins():
    assert len(REFUSALS) >= 20
    assert len({row.number for row in REFUSALS}) == len(REFUSALS)
    assert len({(row.call, str(row.changes)) for row in REFUSALS}) == len(REFUSALS)
