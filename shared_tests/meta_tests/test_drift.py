"""What moved between two records is said in sigma and units in the last place, and what is beyond the gate, and why."""

import json
from dataclasses import replace

import numpy as np
import pytest

from shared_tests import Subject, drift, record
from shared_tests.cases.table import CASES
from shared_tests.faults.catalogue import named
from shared_tests.faults.planted import Planted
from shared_tests.harness.rounding import to_format
from shared_tests.studies import replaying
from shared_tests.studies.false_alarms import scores
from shared_tests.studies.moving import unit_of
from shared_tests.studies.recorded import all_asked
from shared_tests.studies.systematic import ALARM

NAMES = (
    "book",
    "bias, lengths per query",
    "lengths",
    "causal",
    "zero lengths",
    "additive, lengths per query",
    "dropout",
)
SOME = {name: CASES[name] for name in NAMES}
FEW = {name: CASES[name] for name in ("lengths", "zero lengths")}
BEFORE = record(Planted(), cases=SOME)
OUTPUT = "right/lengths/float32/output"


def expected(subject, cases):
    """The truth of every array of a record, by its name."""
    found = (
        (f"{subject.name}/{one.key}/{name}", x)
        for one in all_asked(subject, cases)
        for name, x in one.expected(subject).items()
    )
    return {name: x.expected for name, x in found}


TRUTH = expected(Planted(), SOME)


def changed(change, before=BEFORE):
    """A record whose arrays {name: array} were changed in place."""
    arrays = {name: array.copy() for name, array in before.arrays.items()}
    change(arrays)
    return replace(before, arrays=arrays)


def moved(sigmas, index=(0, 1, 2), name=OUTPUT):
    """A record in which one element moved away from the truth by so many of its sigma."""

    def change(arrays):
        away = np.sign(arrays[name][index] - TRUTH[name].value[index])
        arrays[name][index] += (away * sigmas * TRUTH[name].sigma[index]).astype(arrays[name].dtype)

    return changed(change)


def shifted(array, dtype, sigmas):
    """A record in which a whole array of every case moved by so many sigma."""

    def change(arrays):
        for name in arrays:
            if name.split("/")[2:] == [dtype, array]:
                arrays[name] = (arrays[name] + sigmas * TRUTH[name].sigma).astype(arrays[name].dtype)

    return changed(change)


def row(found, clause):
    (row,) = (row for row in found.rows if row.clause == clause)
    return row


def test_nothing_moved(tmp_path):
    BEFORE.save(tmp_path / "x.safetensors")
    found = drift(tmp_path / "x.safetensors", record(Planted(), cases=SOME))
    assert found.holds
    assert found.verdict().startswith("UNMOVED: right: ")
    assert not list(found.lines())
    assert [row.clause for row in found.rows] == ["2.1", "2.2", "4.1", "4.2", "8.3"]
    assert sum(row.compared for row in found.rows) == sum(array.size for array in BEFORE.arrays.values())


def test_one_unit_in_the_last_place():
    def change(arrays):
        arrays[OUTPUT][1, 2, 3] = np.nextafter(arrays[OUTPUT][1, 2, 3], np.float32(100))

    found = drift(BEFORE, changed(change))
    assert found.holds
    assert not list(found.lines())
    of_output = row(found, "2.1")
    assert (of_output.moved, of_output.beyond) == (1, 0)
    place = of_output.worst.worst
    assert place.index == (1, 2, 3)
    assert place.units in (0.5, 1, 2)  # of the truth, which may lie in another binade
    assert 0 < place.sigmas < 2
    assert [row.moved for row in found.rows if row.clause != "2.1"] == [0, 0, 0, 0]


@pytest.mark.parametrize(("sigmas", "holds"), [(2, True), (20, False)])
def test_one_element(sigmas, holds):
    found = drift(BEFORE, moved(sigmas))
    assert found.holds is holds
    of_output = row(found, "2.1")
    assert (of_output.moved, of_output.beyond) == (1, 0 if holds else 1)
    assert of_output.worst.worst.sigmas == pytest.approx(sigmas, abs=0.5)
    assert (of_output.worst.case, of_output.worst.dtype, of_output.worst.array) == ("lengths", "float32", "output")
    assert not found.systematic
    said = [line for line in found.lines() if line.startswith("beyond the gate: right, output, float32: 1 of ")]
    assert len(said) == (not holds)


def test_out_of_the_gate_by_a_small_step():
    """From 7 to 9 sigma: a move of 2. Back again is none that is held against anybody."""
    inside, outside = moved(7), moved(9.5)
    assert not drift(inside, outside).holds
    assert drift(outside, inside).holds
    assert drift(outside, moved(12)).holds  # it was outside before


@pytest.mark.parametrize(
    ("array", "clause"), [("output", "2.1"), ("attention_weights", "2.2"), ("gradient of keys", "4.1")]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_whole_clause_by_half_a_sigma(array, clause, dtype):
    found = drift(BEFORE, shifted(array, dtype, 0.5))
    assert found.holds
    means = {(x.clause, x.dtype): x for x in found.systematic if x.what == "mean" and x.clause != "8.3"}
    assert list(means) == [(clause, dtype)]
    assert means[clause, dtype].size == pytest.approx(0.5, abs=0.15)
    assert "some systematically" in found.verdict()
    assert any(line.startswith(f"systematic: right, {clause} ") for line in found.lines())


@pytest.mark.parametrize(("times", "alarms"), [(1.5, False), (6, True)])
def test_a_spread(times, alarms):
    """Errors that grew, with no mean."""

    def change(arrays):
        for name in arrays:
            if name.split("/")[2:] == ["float64", "output"]:
                error = (arrays[name] - TRUTH[name].value) * (times - 1)
                arrays[name] = (arrays[name] + error).astype(np.float64)

    found = drift(BEFORE, changed(change))
    spreads = [(x.clause, x.dtype) for x in found.systematic if x.what == "spread"]
    assert (("2.1", "float64") in spreads) is alarms
    if alarms:
        assert any("(root mean square), and were" in line for line in found.lines())


def test_the_tests_of_what_is_systematic_seldom_alarm():
    """Their scores are those of normal numbers where noise is all there is (docs/drift.md has more of them)."""
    names = ("bias", "lengths", "zero lengths", "causal", "additive", "dropout")
    for values in scores({name: CASES[name] for name in names}, 1).values():
        assert values.size > 500
        assert 0.85 < values.std() < 1.2
        assert abs(values.mean()) < 0.2
        assert np.abs(values).max() < ALARM


def test_another_order_of_sums_is_within_and_not_systematic():
    found = drift(BEFORE, record(Reordered(), cases=SOME))
    assert found.holds
    assert sum(row.moved for row in found.rows) > 1000
    assert not found.systematic


class Reordered(Planted):
    """A right port that adds products of matrices from the other end, and pairwise."""

    def build(self, config, weights, dtype):
        layer = super().build(config, weights, dtype)
        layer.changes = [
            *layer.changes,
            {f"product {x}": backwards for x in ("W_q", "W_k", "W_v", "scores", "context")},
        ]
        return layer

    gradients = None


def backwards(right, layer, a, b):
    half = a.shape[-1] // 2
    return right(a[..., half:], b[..., half:, :]) + right(a[..., :half], b[..., :half, :])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "bfloat16-sums",
            "outputs after, in float32, float64: as if the sums of every product are carried in bfloat16",
        ),
        ("softmax-float32", "outputs after, in float64: as if the softmax is computed in float32"),
        ("mask-inverted", "as if the keys that count are masked, and the others attended to"),
        ("bfloat16-sums (gradient of queries)", "gradients after, in float32, float64: as if the sums of gradient of"),
    ],
)
def test_causes(fault, words):
    """Told from the answers of the record alone; and of a fault that was mended, too."""
    wrong = record(Planted(named(fault)), cases=SOME)
    found = drift(BEFORE, wrong)
    assert not found.holds
    assert any(words in cause for cause in found.causes), found.causes
    assert any(words.replace(" after", " before") in cause for cause in drift(wrong, BEFORE).causes)


class OneInput(Planted):
    """Takes one array, and gives the gradient of it."""

    inputs = "self"

    def __init__(self, *faults):
        super().__init__(*faults)
        self.name = "one"

    def gradients(self, *arguments):
        found = super().gradients(*arguments)
        return found | {"queries": found["queries"] + found.pop("keys") + found.pop("values")}


def test_causes_of_a_port_of_one_input():
    """Its gradient is a sum of three, which no variant has: the others tell."""
    cases = {"self attention": CASES["self attention"]}
    wrong = OneInput(named("bfloat16-sums (gradient of W_v)"))
    assert drift(record(OneInput(), cases=cases), record(OneInput(), cases=cases)).holds
    found = drift(record(OneInput(), cases=cases), record(wrong, cases=cases))
    words = "as if the sums of gradient of W_v are carried in bfloat16"
    assert found.causes == [f"one: gradients after, in float32, float64: {words}"]


def test_a_cause_in_many_numbers(monkeypatch):
    """Of what is too large to replay the catalogue on, a parameter's gradient is told by its product."""
    monkeypatch.setattr(replaying, "LARGEST", 100)
    cases = {"lengths": replace(CASES["lengths"], dtypes=("float32",))}
    wrong = record(Planted(named("bfloat16-sums (gradient of W_o)")), cases=cases)
    found = drift(record(Planted(), cases=cases), wrong)
    words = "gradient of W_o.weight after, in float32: as if the sums of gradient of W_o are carried in bfloat16"
    assert [cause.partition(": ")[2] for cause in found.causes] == [words]


def test_scores_below_those_that_are_claimed_are_not_compared():
    claiming = type("Claiming", (Planted,), {"lowest_score": -1e6})
    cases = {name: CASES[name] for name in ("lengths", "scores far below -1e6")}
    before = record(claiming(), cases=cases)
    found = drift(before, changed(lambda arrays: [array.__imul__(2) for array in arrays.values()], before))
    assert {x.case for x in found.moves} == {"lengths"}
    words = "not compared: right: scores far below -1e6, float32 has scores below those that are claimed, and 1 more"
    assert words in list(found.lines())


def test_numbers_that_are_none():
    """NaN is beyond the gate where a number was, and no move where it was NaN; a masked weight has no noise at all."""

    def nan(arrays):
        arrays[OUTPUT][0, 0, 0] = np.nan

    def masked(arrays):
        arrays["right/lengths/float32/attention_weights"][0, 0, 0, 6] = 1e-30

    for change, clause in ((nan, "2.1"), (masked, "2.2")):
        found = drift(BEFORE, changed(change))
        assert not found.holds
        assert (row(found, clause).moved, row(found, clause).beyond) == (1, 1)
        assert row(found, clause).worst.worst.sigmas == np.inf
        written = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert written["moved"][0]["worst"]["sigmas"] is None
    assert drift(changed(nan), changed(nan)).verdict().startswith("UNMOVED")


def with_subject(before=BEFORE, **options):
    ((name, about),) = before.subjects.items()
    return replace(before, subjects={name: replace(about, **options)})


def test_what_was_asked_otherwise_is_said_and_not_compared():
    other = with_subject(digests=BEFORE.subjects["right"].digests | {"lengths/float32": "0" * 64})
    both = with_subject(other, digests=other.subjects["right"].digests)
    fewer = with_subject(
        digests={key: x for key, x in other.subjects["right"].digests.items() if key != "causal/float64"}
    )
    for before, after, words in (
        (BEFORE, other, "not compared: right: lengths, float32 was asked with other numbers"),
        (
            both,
            both,
            "not compared: right: lengths, float32 is asked with other numbers by this release of trihead: "
            "record both anew",
        ),
        (BEFORE, fewer, "not compared: right: causal, float64 was asked only before"),
        (fewer, other, "not compared: right: causal, float64 was asked only after"),
    ):
        found = drift(before, after)
        assert words in list(found.lines())
        assert found.holds
    assert not [x for x in drift(BEFORE, other).moves if (x.case, x.dtype) == ("lengths", "float32")]


def test_nothing_compared_does_not_hold():
    found = drift(BEFORE, with_subject(digests=dict.fromkeys(BEFORE.subjects["right"].digests, "0" * 64)))
    assert not found.holds
    assert found.verdict() == "NOTHING WAS COMPARED: right"


def test_subjects_in_one_record_only():
    (about,) = BEFORE.subjects.values()
    three = replace(BEFORE, subjects={"right": about, "second": about, "third": about})
    two = replace(BEFORE, subjects={"right": about, "fourth": about})
    lines = list(drift(three, two).lines())
    assert "not compared: second is only before" in lines
    assert "not compared: third is only before" in lines
    assert "not compared: fourth is only after" in lines


def test_answers_that_are_errors_or_of_other_shapes():
    key, words = "lengths/float32", "ValueError: no"
    without = {name: x for name, x in BEFORE.arrays.items() if f"/{key}/" not in name}
    failing = replace(with_subject(errors={key: words}), arrays=without)
    after = drift(BEFORE, failing)
    assert not after.holds
    assert "beyond the gate: right, output, float32: came to an error: ValueError: no in lengths" in list(after.lines())
    before = drift(failing, BEFORE)
    assert before.holds
    assert "not compared: right: lengths, float32 came to an error before" in list(before.lines())
    short = drift(BEFORE, changed(lambda arrays: arrays.update({OUTPUT: arrays[OUTPUT][:1]})))
    assert not short.holds
    assert any("shape (2, 5, 12) became (1, 5, 12)" in line for line in short.lines())
    fewer = drift(BEFORE, changed(lambda arrays: arrays.pop("right/lengths/float32/gradient of keys")))
    assert fewer.holds
    assert "not compared: right: lengths, float32 has gradient of keys only before" in list(fewer.lines())


class Misshapen(Planted):
    """Gives an output of a wrong shape, and a gradient of nothing."""

    number = 1.0

    def forward(self, *arguments):
        output, weights = super().forward(*arguments)
        return output[..., :3] * self.number, weights

    def gradients(self, *arguments):
        return {"nothing": np.ones(3) * self.number}


def test_what_the_oracle_has_not_is_beyond_the_gate_if_it_moves():
    before, after = Misshapen(), Misshapen()
    after.number = 2.0
    assert drift(record(before, cases=FEW), record(before, cases=FEW)).holds
    found = drift(record(before, cases=FEW), record(after, cases=FEW))
    assert not found.holds
    lines = list(found.lines())
    words = "moved, and has a shape or a name that the oracle has not"
    assert any(line.startswith("beyond the gate: right, output, float32: " + words) for line in lines)
    assert any(line.startswith("beyond the gate: right, gradient of nothing, float64: " + words) for line in lines)


class Undefined(Planted):
    rows_without_key = "undefined"
    number = 1.0

    def forward(self, model, queries, keys, values, valid_lens):
        output, weights = super().forward(model, queries, keys, values, valid_lens)
        empty = np.zeros(len(queries), bool) if valid_lens is None or valid_lens.ndim == 2 else valid_lens <= 0
        output[empty], weights[empty] = self.number, self.number
        return output, weights


def test_rows_that_are_left_undefined_are_not_compared():
    after = Undefined()
    after.number = 7.0
    found = drift(record(Undefined(), cases=FEW), record(after, cases=FEW))
    assert found.verdict().startswith("UNMOVED")
    after.rows_without_key = "uniform"
    assert not drift(record(Undefined(), cases=FEW), record(after, cases=FEW)).holds


def test_what_else_changed_is_said():
    after = replace(BEFORE, facts=BEFORE.facts | {"numpy": "9.9", "torch": "not installed", "OMP_STACKSIZE": "1"})
    before = replace(BEFORE, facts=BEFORE.facts | {"torch": "2.0", "jax": "not installed", "numpy": "9.8"})
    found = drift(before, replace(after, facts=after.facts | {"jax": "1.0"})).changed
    assert found == [
        "numpy: 9.8 → 9.9",
        "OMP_STACKSIZE: not set → 1",
        "installed only before: torch",
        "installed only after: jax",
    ]
    claims = with_subject(claims=BEFORE.subjects["right"].claims | {"dtypes": ["float64"]})
    assert drift(BEFORE, claims).changed == ["right claims dtypes: ['float64', 'float32'] → ['float64']"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_units_are_the_spacing_of_numbers(dtype):
    least = np.finfo(dtype).smallest_normal
    numbers = np.array([1, 1.5, 2, 3, -7, 1000, least, least / 4, least * 1.5, 0], dtype)
    assert np.array_equal(unit_of(numbers, dtype), np.spacing(np.abs(numbers)).astype(np.float64))


def test_units_of_bfloat16():
    for number in (1.0, 1.5, 200.0, 2.0**-126):
        after = to_format(np.float32(number) + unit_of(np.array(number), "bfloat16"), "bfloat16")
        assert after == np.float32(number + unit_of(np.array(number), "bfloat16"))
        assert to_format(np.float32(number + unit_of(np.array(number), "bfloat16") / 4), "bfloat16") == np.float32(
            number
        )


def test_an_implementation_does_not_drift(subjects):
    """End to end on one of the three: recorded twice, nothing moved; its training, too."""
    names = ("lengths per query", "dropout")
    cases = {name: CASES[name] for name in names}
    found = drift(record(subjects[0], cases=cases), record(subjects[0], cases=cases))
    assert found.verdict().startswith(f"UNMOVED: {subjects[0].name}: ")
    assert {x.dtype for x in found.moves} == {"float64", "float32", "bfloat16", "float16"}


def test_a_port_without_attention_weights_or_with_their_mean():
    for claim in ("none", "averaged"):
        made = [record(Shown(claim, times), cases=FEW) for times in (1, 1 + 2.0**-10)]
        assert drift(made[0], made[0]).holds
        found = drift(*made)
        assert not found.holds
        assert {x.array for x in found.moves} == {"output", *(["attention_weights"] if claim == "averaged" else [])}


class Shown(Subject):
    dtypes = ("float64",)

    def __init__(self, claim, times):
        self.attention_weights, self.times = claim, times

    def build(self, config, weights, dtype):
        return Planted().build(config, weights, dtype)

    def forward(self, model, queries, keys, values, valid_lens):
        output, weights = Planted().forward(model, queries, keys, values, valid_lens)
        output = output * self.times
        return output if self.attention_weights == "none" else (output, weights.mean(axis=1) * self.times)
