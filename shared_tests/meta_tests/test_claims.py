"""What is not claimed is not asked, what is claimed is judged, and most of the table is asked all the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

from shared_tests import Subject, judge
from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.faults.diagnosis import diagnose
from shared_tests.harness.claims import asked, mask_of
from shared_tests.harness.find import find
from shared_tests.harness.recovery import recovered
from shared_tests.harness.subject import as_subject
from shared_tests.harness.truth import Oracle

PORT = find(f"{Path(__file__).parents[2] / 'docs' / 'my_port.py'}:MyPort")


class Port(Subject):
    """A right port that claims less, and fails if it is asked for more."""

    gain = 1.0

    def build(self, config, weights, dtype):
        sizes = {config.query_size, config.key_size, config.value_size, config.num_hiddens}
        assert not self.square or len(sizes) == 1
        assert self.bias == "any" or config.bias == (self.bias == "always") == ("W_q.bias" in weights)
        assert dtype in self.dtypes
        assert config.num_heads % self.heads_multiple_of == 0
        return PORT.build(config, weights, dtype)

    def forward(self, model, queries, keys, values, valid_lens):
        assert self.inputs == "any" or queries.shape == keys.shape == values.shape
        assert self.empty or queries.size
        assert self.mask(queries, valid_lens) & set(self.masks)
        inputs = (queries, queries, queries) if self.inputs == "self" else (queries, keys, values)
        output, weights = PORT.forward(model, *inputs, self.lengths(valid_lens))
        output, weights = self.emptied(output, weights, model, valid_lens)
        if self.attention_weights == "none":
            return output
        return output, weights.mean(axis=1) if self.attention_weights == "averaged" else weights * self.gain

    def mask(self, queries, lengths):
        if lengths is None:
            return {"none"}
        causal = lengths.ndim == 2 and (lengths == np.arange(1, queries.shape[1] + 1)).all()
        return {"lengths" if lengths.ndim == 1 else "lengths per query", *(["causal"] if causal else [])}

    def lengths(self, valid_lens):
        return valid_lens

    def emptied(self, output, weights, model, lengths):
        """Rows without a valid key, as they are claimed; anything at all where they are undefined."""
        how = {"uniform": None, "zeros": 0.0, "nan": np.nan, "undefined": 7.0}[self.rows_without_key]
        if how is None or lengths is None:
            return output, weights
        empty = np.broadcast_to((lengths[:, None] if lengths.ndim == 1 else lengths) <= 0, output.shape[:2])
        output, weights = output.copy(), weights.copy()
        output[empty] = how + model[1].get("W_o.bias", 0)
        weights.swapaxes(1, 2)[empty] = how
        return output, weights


def port(**claims):
    return type("Claiming", (Port,), claims)()


CLAIMS = [
    ({"inputs": "self"}, "self-attention only", 30),
    ({"square": True}, "square only", 32),
    ({"inputs": "self", "square": True, "bias": "always"}, "self-attention only; square only; with biases", 27),
    ({"bias": "never"}, "without biases", 28),
    ({"heads_multiple_of": 4}, "heads a multiple of 4", 32),
    ({"masks": ("none",), "empty": False}, "no masks; no empty inputs", 24),
    ({"masks": ("causal",), "inputs": "self"}, "self-attention only; causal masks only", 23),
    ({"masks": ("none", "lengths")}, "no lengths per query; no causal mask", 32),
    ({"masks": ("lengths per query",)}, None, 31),
    ({"dtypes": ("float32",)}, "float32 only", 32),
    ({"attention_weights": "averaged"}, "attention weights averaged", 32),
    ({"attention_weights": "none"}, "no attention weights", 32),
    ({"attention_weights": "none", "inputs": "self"}, "self-attention only; no attention weights", 30),
    ({"rows_without_key": "zeros"}, "zeros where no key is valid", 32),
    ({"rows_without_key": "nan"}, "NaN where no key is valid", 32),
    ({"rows_without_key": "nan", "attention_weights": "none"}, "no attention weights; NaN where no key is valid", 32),
    ({"rows_without_key": "undefined"}, "rows without a valid key left out", 32),
]


@pytest.mark.parametrize(("claims", "words", "cases"), CLAIMS, ids=str)
def test_a_right_port_holds_within_its_claims(claims, words, cases):
    report = judge(port(**claims))
    assert report.holds, str(report)
    within = f" within its claims ({words})" if words else ""
    assert report.verdict().startswith(f"HOLDS{within}: Claiming: ")
    assert f"over {cases} cases" in report.verdict()


@pytest.mark.parametrize(
    ("claims", "clauses"),
    [
        ({"masks": ("none",)}, ["3.1", "3.2", "3.4"]),
        ({"rows_without_key": "undefined"}, ["3.2"]),
        ({"dtypes": ("float32",)}, ["2.3"]),
        ({"attention_weights": "none", "inputs": "self"}, ["2.4", "3.1"]),
        ({}, set()),
    ],
    ids=str,
)
def test_what_is_not_claimed_reads_so(claims, clauses):
    report = judge(port(**claims))
    absent = {clause for (clause, name), cell in report.cells.items() if cell is None}
    assert {clause for clause in absent if report.missing(clause, "Claiming") == "not claimed"} == {*clauses}


def one_key_more(self, valid_lens):
    return None if valid_lens is None else valid_lens + 1


@pytest.mark.parametrize("claims", [claims for claims, *_ in CLAIMS if claims.get("masks") is None], ids=str)
def test_a_wrong_port_fails_whatever_it_claims(claims):
    report = judge(port(**claims, lengths=one_key_more))
    broken = {finding.clause for finding in report.failures}
    assert {"2.1", "2.2", "3.4"} <= broken
    assert ("3.1" in broken) == (claims != {"attention_weights": "none", "inputs": "self"})


OTHERWISE = [("zeros", "nan"), ("nan", "zeros"), ("uniform", "zeros"), ("zeros", "uniform")]


@pytest.mark.parametrize(("does", "claims"), OTHERWISE)
def test_rows_without_a_key_are_what_is_claimed(does, claims):
    class Other(Port):
        rows_without_key = claims

        def emptied(self, *arguments):
            return port(rows_without_key=does).emptied(*arguments)

    broken = {finding.clause for finding in judge(Other()).failures}
    assert {"2.1", "2.2", "3.2"} <= broken
    assert not broken & {"3.1", "7.1", "7.2"}


def test_a_fill_is_held_to_the_scores_that_are_claimed():
    source = (Path(__file__).parents[2] / "docs" / "my_port.py").read_text()
    scope = {}
    exec(source.replace("np.finfo(q.dtype).min", "-1e9"), scope)
    scope["MyPort"].__module__ = __name__
    assert {f.case for f in judge(scope["MyPort"]()).failures} == {"equal scores far below -1e30"}
    claiming = type("Claiming", (scope["MyPort"],), {"lowest_score": -1e9})()
    report = judge(claiming)
    assert report.verdict().startswith("HOLDS within its claims (scores above -1e+09): Claiming: ")
    assert "equal scores far below -1e30" not in {finding.case for finding in report.findings}


def test_attention_weights_come_bit_for_bit_from_outputs():
    for name in ("book", "lengths per query", "one head", "bias", "heads equal hidden", "common mean"):
        for dtype in ("float64", "float32"):
            trial = draw(name, CASES[name], dtype)
            _, weights = PORT.forward(PORT.build(trial.config, trial.parameters, dtype), *trial.inputs)
            shown = recovered(as_subject(port(attention_weights="none")), trial)
            np.testing.assert_array_equal(shown, weights)
            assert shown.dtype == dtype


def test_cases_are_not_asked_twice():
    for claims, *_ in CLAIMS:
        put = asked(CASES, as_subject(port(**claims)))
        changed = [case for name, case in put.items() if case != CASES[name]]
        assert len(set(changed)) == len(changed)
        assert not set(changed) & {case for name, case in put.items() if case == CASES[name]}


def test_a_port_that_claims_everything_is_asked_every_case_as_it_stands():
    class All(Port):
        additive = True
        pruned = True

        def with_mask(self, model, keep):
            raise NotImplementedError

    assert asked(CASES, as_subject(All())) == CASES


def test_masks_are_called_as_claims_call_them():
    kinds = {name: mask_of(case) for name, case in CASES.items()}
    assert {"no lengths", "empty batch", "digits"} == {name for name, kind in kinds.items() if kind == "none"}
    assert [name for name, kind in kinds.items() if kind == "causal"] == ["causal"]
    assert kinds["lengths"] == "lengths"
    assert kinds["lengths per query"] == "lengths per query"


def test_the_trained_layer_made_square_is_the_same_layer():
    put = asked({"digits": CASES["digits"]}, as_subject(port(square=True)))["digits"]
    trial, square = draw("digits", CASES["digits"], "float64"), draw("digits", put, "float64")
    assert square.queries.shape[-1] == 64
    of_both = [Oracle().of(each, False).stages["output"].value for each in (trial, square)]
    np.testing.assert_array_equal(*of_both)


class Widened(Subject):
    """The guide's columns of zeros: a layer that can only be square, asked every size."""

    name = "widened"

    def build(self, config, weights, dtype):
        square = {name: x if x.ndim == 1 else widened(x, config.num_hiddens) for name, x in weights.items()}
        assert len({x.shape for x in square.values() if x.ndim == 2}) == 1
        return PORT.build(config, square, dtype), config.num_hiddens

    def forward(self, model, queries, keys, values, valid_lens):
        layer, width = model
        return PORT.forward(layer, *(widened(x, width) for x in (queries, keys, values)), valid_lens)


def widened(x, width):
    return np.concatenate([x, np.zeros((*x.shape[:-1], width - x.shape[-1]), x.dtype)], axis=-1)


def test_columns_of_zeros_make_a_layer_square():
    assert judge(Widened()).verdict().startswith("HOLDS: widened: ")


def test_a_subject_need_not_derive():
    assert "shared_tests" in sys.modules
    assert not isinstance(PORT, Subject)
    assert PORT.rows_without_key == "uniform"


@pytest.mark.parametrize("given", [0, 2.0, "4"])
def test_a_number_of_heads_that_is_none_is_one_line(given):
    with pytest.raises(ValueError, match=r"^subject: expected heads_multiple_of to be an integer of at least 1, got "):
        judge(port(heads_multiple_of=given), cases={})


def test_heads_are_redrawn_as_many_as_are_claimed():
    put = asked(CASES, as_subject(port(heads_multiple_of=4, pruned=True)))
    config = put["lengths per query"].config
    assert (config.num_heads, config.head_dim, config.num_hiddens) == (4, 4, 16)
    assert (put["pruned"].config.num_heads, put["pruned"].config.num_hiddens) == (4, 12)
    assert put["digits"] == CASES["digits"]
    assert "digits" not in asked(CASES, as_subject(port(heads_multiple_of=3)))  # what was trained keeps its heads


def test_a_diagnosis_asks_three_heads():
    with pytest.raises(ValueError, match=r"^diagnose: expected a port that takes 3 heads, got heads_multiple_of 4$"):
        diagnose(port(heads_multiple_of=4))
