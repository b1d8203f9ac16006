"""Answers in files are judged as the port that gave them, and files that are not what they should be get one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_tests import Subject, judge
from shared_tests.cases.case import Config
from shared_tests.cases.table import CASES
from shared_tests.faults.catalogue import named
from shared_tests.faults.diagnosis import diagnose
from shared_tests.faults.planted import Planted
from shared_tests.harness.answers import read_answers, read_claims, write_questions
from shared_tests.harness.find import find
from shared_tests.harness.questions import Question
from shared_tests.harness.scoring import DOT_PRODUCT, Additive
from shared_tests.storage import read_arrays, write_arrays

DOCS = Path(__file__).parents[2] / "docs"
PORT = find(f"{DOCS / 'my_port.py'}:MyPort")
NAMES = ("lengths per query", "zero lengths", "empty batch", "no queries", "bias", "single entry", "digits")
SOME = {name: CASES[name] for name in NAMES}
OF_CALLS = {"1.4", "5.1", "7.1", "7.2", "10.1", "10.2"}


class Port(Subject):
    """A right port that claims less."""

    def build(self, config, weights, dtype):
        return PORT.build(config, weights, dtype)

    def forward(self, model, queries, keys, values, valid_lens):
        output, weights = PORT.forward(model, queries, keys, values, valid_lens)
        if self.attention_weights == "none":
            return output
        return output, weights.mean(axis=1) if self.attention_weights == "averaged" else weights


def questions(folder, claims=None, cases=SOME):
    """The folder, with what the judge asks about some cases."""
    write_questions(folder, claims or {}, [lambda subject, advance: judge(subject, cases=cases, advance=advance)])
    return folder


def answer(folder, subject, change=lambda found: found):
    """Has a subject answer, from the files alone."""
    for entry in json.loads((folder / "manifest.json").read_text())["questions"]:
        given, config = read_arrays(folder / "questions" / entry["file"]), dict(entry["config"])
        scoring = DOT_PRODUCT if config.pop("scoring") == "dot product" else None
        scoring = scoring or Additive(len(given["attention.W_q.weight"]))
        inputs = [given.get(name) for name in ("queries", "keys", "values", "valid_lens")]
        weights = {name: array for name, array in given.items() if "." in name}
        model = subject.build(Config(**config, scoring=scoring), weights, entry["dtype"])
        model = subject.with_mask(model, given["keep"]) if "keep" in given else model
        if "cotangent" in given:
            found = subject.gradients(model, *inputs, given["cotangent"])
        else:
            result = subject.forward(model, *inputs)
            result = result if isinstance(result, tuple) else (result,)
            found = dict(zip(("output", "attention_weights"), result, strict=False))
            if "scores" in entry["answer"]:
                found = subject.stages(model, *inputs) | found
        assert {name: list(array.shape) for name, array in found.items()} == entry["answer"]
        write_arrays(folder / "answers" / entry["file"], change(found))


def test_questions(tmp_path):
    """A question's file holds all that is needed; the manifest says the same, and what to answer."""
    folder = questions(tmp_path, cases={"bias": CASES["bias"]})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["schema"], manifest["claims"]) == (1, {})
    entry = manifest["questions"][0]
    given = read_arrays(folder / "questions" / entry["file"])
    assert {name: array.shape for name, array in given.items() if "." not in name} == {
        "num_heads": (1,),
        "queries": (2, 5, 5),
        "keys": (2, 7, 7),
        "values": (2, 7, 11),
        "valid_lens": (2,),
    }
    assert given["valid_lens"].dtype == np.int64
    assert given["W_v.weight"].shape == (12, 11)
    assert given["W_o.bias"].shape == (12,)
    assert entry["answer"] == {"output": [2, 5, 12], "attention_weights": [2, 3, 5, 7]}
    assert {entry["dtype"] for entry in manifest["questions"]} == {"float64", "float32"}
    assert len(manifest["questions"]) == 6  # in each dtype as it stands, reversed, and with garbage in padding


def test_of_one_input_one_gradient_is_asked(tmp_path):
    folder = questions(tmp_path, {"inputs": "self", "methods": ["gradients"]}, {"lengths": CASES["lengths"]})
    asked = [entry["answer"] for entry in json.loads((folder / "manifest.json").read_text())["questions"]]
    weights = {"W_q.weight": [12, 11], "W_k.weight": [12, 11], "W_v.weight": [12, 11], "W_o.weight": [12, 12]}
    assert [answer for answer in asked if "output" not in answer] == [weights | {"queries": [2, 7, 11]}] * 2


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"attention_weights": "averaged", "bias": "always"},
        {"attention_weights": "none", "dtypes": ["float64"]},
        {"attention_weights": "none", "inputs": "self", "square": True},
        {"masks": ["causal"], "empty": False},
    ],
    ids=str,
)
def test_a_port_is_judged_in_files_as_it_is_called(tmp_path, claims):
    port = type("Claiming", (Port,), claims)()
    folder = questions(tmp_path, claims)
    answer(folder, port)
    compare(judge(read_answers(folder), cases=SOME), judge(port, cases=SOME))


def test_optional_methods_are_judged_in_files_too(tmp_path, subjects):
    """Gradients, stages and dropout, in every dtype."""
    names = ("lengths per query", "zero lengths", "bias", "dropout", "additive", "empty batch")
    cases = {name: CASES[name] for name in names}
    claims = {"dtypes": ["float64", "float32", "bfloat16", "float16"], "additive": True}
    folder = questions(tmp_path, claims | {"methods": ["gradients", "stages", "with_mask"]}, cases)
    answer(folder, subjects[0])
    compare(judge(read_answers(folder), cases=cases), judge(subjects[0], cases=cases))


def compare(in_files, called):
    """The two reports say the same, clause by clause, less what only calls can show."""
    assert in_files.holds, str(in_files)
    for (clause, name), cell in called.cells.items():
        found = in_files.cell(clause, in_files.subjects[0])
        if clause in OF_CALLS:
            assert found is None
        else:
            assert found == cell, (clause, name)
    assert in_files.missing("7.2", in_files.subjects[0]) == "not claimed"
    assert "answers in files" in in_files.verdict()


def test_what_is_asked_does_not_depend_on_answers(tmp_path):
    """Else a wrong port would be asked what the files lack."""
    random = np.random.default_rng(0)
    for number, claims in enumerate(({}, {"attention_weights": "none"})):
        folder = questions(tmp_path / str(number), claims)
        noise = lambda found: {name: random.normal(size=x.shape).astype(x.dtype) for name, x in found.items()}  # noqa: E731
        answer(folder, type("Claiming", (Port,), claims)(), noise)
        report = judge(read_answers(folder), cases=SOME)
        assert {"2.1", "2.2", "3.4"} <= {finding.clause for finding in report.failures}
        assert "LookupError" not in str(report)


def test_a_question_is_told_by_all_that_is_given():
    """Whatever differs, it is another question, so that no answer stands for two."""
    config = CASES["bias"].config
    arrays = {name: np.arange(4.0) for name in ("queries", "keys", "values", "W_q.weight", "keep", "cotangent")}
    question = Question(config, "float32", arrays)
    others = [question.given(**{name: array + 1}) for name, array in arrays.items()]
    others += [question.given(valid_lens=np.arange(2)), question.given(keys=arrays["keys"].reshape(2, 2))]
    others += [question.given(keys=arrays["keys"].view(np.int64)), Question(config, "bfloat16", arrays)]
    others += [Question(config, "float32", {name: x for name, x in arrays.items() if name != "keep"})]
    assert len({question.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert question.digest == question.given(keys=arrays["keys"]).answered({"output": (2,)}).digest


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A folder of right answers, not to be changed."""
    folder = questions(tmp_path_factory.mktemp("answered"), cases={"bias": CASES["bias"]})
    answer(folder, PORT)
    return folder


@pytest.fixture
def folder(answered, tmp_path):
    """A copy of it."""
    return shutil.copytree(answered, tmp_path / "port")


def causes(folder):
    return judge(read_answers(folder), cases={"bias": CASES["bias"]}).causes()


def test_answers_that_are_missing_are_one_line(folder):
    assert causes(folder) == []
    first, second = sorted((folder / "answers").iterdir())[:2]
    first.unlink()
    second.unlink()
    (line,) = causes(folder)
    assert "1 case: FileNotFoundError: 2 of 6 questions have no answer in " in line
    shutil.rmtree(folder / "answers")
    (line,) = causes(folder)
    assert "6 of 6 questions have no answer" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x: {},
            "1.1 shapes and dtypes: bias, float64: answer: expected attention_weights, output; bias-float64-",
        ),
        (lambda x: x | {"output": x["output"][:, :1]}, "1.1 shapes and dtypes (output): bias, float64: expected shape"),
        (lambda x: x | {"output": x["output"].astype(np.float16)}, "(output): bias, float64: expected dtype"),
        (
            lambda x: x | {"output": x["output"].astype(int)},
            "forward: expected an array of floating numbers, got int64",
        ),
    ],
)
def test_answers_that_do_not_fit_fail_their_case(folder, change, words):
    answer(folder, PORT, change)
    assert words in causes(folder)[0]


def test_a_truncated_answer_fails_its_case(folder):
    for path in (folder / "answers").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    (line, *_) = causes(folder)
    assert "1.1 shapes and dtypes: bias, float64: answer: expected a safetensors file, got bias-float64-" in line
    assert "(+1 more)" in line


def test_a_question_that_the_folder_lacks_is_an_error(folder):
    report = judge(read_answers(folder), cases={"lengths": CASES["lengths"]})
    assert "LookupError" in report.causes()[0]
    assert "write it anew with trihead cases" in report.causes()[0]


def edited(**changes):
    def edit(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))

    return edit


def question_changed(folder):
    path = min((folder / "questions").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edited(schema=0), "expected questions of schema 1, got 0: write it anew with trihead cases"),
        (question_changed, "expected questions as trihead cases wrote them, got bias-float32-"),
        (lambda folder: min((folder / "questions").iterdir()).unlink(), "got bias-float32-"),
        (lambda folder: (folder / "manifest.json").unlink(), "expected a folder that trihead cases wrote"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: expected JSON, got "),
        (edited(**{"made by": "others"}), "expected a folder that trihead cases wrote"),
        (edited(claims={"bias": "no"}), "expected bias to be 'any' or 'never' or 'always', got 'no'"),
    ],
)
def test_a_folder_that_is_not_as_it_was_written_is_refused(folder, change, words):
    change(folder)
    with pytest.raises(ValueError, match="expected") as error:
        find(str(folder / "manifest.json"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "claims.json: expected JSON, got "),
        ("[]", "claims.json: expected a JSON object, got list"),
        ('{"size": 1}', "claims.json: expected claims of dtypes, masks, inputs, square, "),
        ('{"methods": ["train"]}', "expected methods of gradients, stages, with_mask, got ['train']"),
        ('{"dtypes": ["float8"]}', "expected dtypes of float64, float32, bfloat16, float16, got ['float8']"),
    ],
)
def test_claims_that_there_are_not_are_refused(tmp_path, text, words):
    (tmp_path / "claims.json").write_text(text)
    with pytest.raises(ValueError, match="expected") as error:
        questions(tmp_path / "port", read_claims(tmp_path / "claims.json"))
    assert words in str(error.value)
    assert not (tmp_path / "port").exists()


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a new or empty folder, or one that trihead cases wrote"):
        questions(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_writing_again_keeps_answers_and_removes_what_is_not_asked(folder):
    before = {path.name for path in (folder / "questions").iterdir()}
    (folder / "questions" / "notes.txt").write_text("a porter's own")
    questions(folder, {"dtypes": ["float64"]}, {"bias": CASES["bias"]})
    after = {path.name for path in (folder / "questions").iterdir()}
    assert after == {name for name in before if "float64" in name} | {"notes.txt"}
    assert {path.name for path in (folder / "answers").iterdir()} == before
    assert causes(folder) == []


def trihead(*arguments):
    command = [sys.executable, "-m", "shared_tests", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def run(program, *arguments):
    """Runs a program; skips where it is not installed, but in CI."""
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    subprocess.run([program, *map(str, arguments)], check=True, timeout=120)


def cases_in(folder, *options):
    result = trihead("cases", folder, *options)
    assert result.returncode == 0, result.stderr
    assert f"trihead verify --answers {folder}" in result.stdout.splitlines()[-1]
    return sorted((folder / "questions").iterdir())


def test_the_port_in_javascript_holds(tmp_path):
    assert len((DOCS / "port.mjs").read_text().splitlines()) <= 120
    cases_in(tmp_path / "port")
    run("node", DOCS / "port.mjs", tmp_path / "port")
    result = trihead("verify", "--answers", tmp_path / "port", "--json", tmp_path / "report.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HOLDS within its claims (answers in files): port: " in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is True
    assert report["claims"] == {"port": ["answers in files"]}


def test_the_port_in_c_holds_and_a_wrong_one_fails(tmp_path):
    assert len((DOCS / "port.c").read_text().splitlines()) <= 120
    (tmp_path / "claims.json").write_text('{"dtypes": ["float64"], "name": "port.c"}')
    files = cases_in(tmp_path / "port", "--claims", tmp_path / "claims.json")
    run("cc", "-std=c99", "-O2", "-o", tmp_path / "right", DOCS / "port.c", "-lm")
    run(tmp_path / "right", *files)
    result = trihead("verify", "--answers", tmp_path / "port")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HOLDS within its claims (float64 only; answers in files): port.c: " in result.stdout
    wrong = (DOCS / "port.c").read_text().replace("/ sqrt(depth)", "/ depth")
    (tmp_path / "wrong.c").write_text(wrong)
    run("cc", "-std=c99", "-O2", "-o", tmp_path / "wrong", tmp_path / "wrong.c", "-lm")
    run(tmp_path / "wrong", *files)
    result = trihead("verify", "--answers", tmp_path / "port")
    assert result.returncode == 1
    assert result.stdout.splitlines()[0].startswith("2.2 attention weights: book, float64: ")
    assert result.stdout.splitlines()[-1] == f"next: trihead diagnose --answers {tmp_path / 'port'}"
    result = trihead("diagnose", "--answers", tmp_path / "port")
    assert result.returncode == 1
    assert result.stdout.startswith("scale-twice: matches the oracle")


@pytest.mark.parametrize("name", ["mask-tiled-over-heads", "softmax-float32", "fill-finite (-1e+09)", "empty-rows-nan"])
def test_diagnosis_of_answers_names_the_fault(tmp_path, name):
    """What it asks is among the questions, and the fault is the one that is found by calling."""
    fault = named(name)
    write_questions(tmp_path, {"dtypes": ["float64"]}, [diagnose])
    answer(tmp_path, Planted(fault))
    assert diagnose(read_answers(tmp_path)).faults == [fault.id]
    answer(tmp_path, PORT)
    assert diagnose(read_answers(tmp_path)).holds


def test_bad_use_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (["cases", tmp_path], ["cases", tmp_path / "file"], ["verify", "--answers", tmp_path]):
        result = trihead(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(f"trihead: {arguments[-1]}: expected ")
        assert len(result.stderr.splitlines()) == 1
