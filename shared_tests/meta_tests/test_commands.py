"""The command: what it prints, how it exits, and how it takes bad use."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
BROKEN = """
class Port:
    def build(self, config, weights, dtype): return None
    def forward(self, model, queries, keys, values, valid_lens): {}
"""
TRIHEAD = [sys.executable, "-m", "shared_tests"]


def trihead(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 600} | options
    return subprocess.run([*TRIHEAD, *map(str, arguments)], **options)


def test_verify_a_port(tmp_path):
    """In under ten seconds, with no framework loaded; and JSON beside the table."""
    result = trihead("verify", "--subject", f"{PORT}:MyPort", "--json", tmp_path / "report.json", timeout=10)
    assert result.returncode == 0, result.stderr
    assert "HOLDS: MyPort" in result.stdout
    assert "not offered: 1.4, 2.5, 3.5, 4.1, 4.2, 5.1, 6, 8.1, 8.2, 8.3, 10.1, 10.2\n" in result.stdout
    assert result.stderr == ""
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["holds"] is True
    assert report["failures"] == []
    cells = {row["clause"]: row["subjects"]["MyPort"] for row in report["clauses"]}
    assert cells["4.1"] is None
    assert cells["2.1"]["compared"] > 10_000
    assert 0 < cells["2.1"]["worst"] < 8
    assert sum(cells["2.1"]["histogram"]) == cells["2.1"]["compared"]
    assert len(cells["2.1"]["histogram"]) == len(report["histogram_edges_sigma"])
    assert report["histogram_edges_sigma"][-1] == 8


def test_verify_a_wrong_port(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PORT.read_text().replace("np.sqrt(q.shape[-1]", "np.sqrt(heads * q.shape[-1]"))
    result = trihead("verify", "--subject", f"{wrong}:MyPort")
    assert result.returncode == 1
    assert "FAILS: MyPort: clauses 2.1" in result.stdout
    assert "✗" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2.2 attention weights: book, float64: ")
    assert lines[-1] == f"next: trihead diagnose --subject {wrong}:MyPort"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no luck\\nat all')", "32 cases: RuntimeError: no luck … at all (port.py:4); first book"),
        ("return queries", "forward: expected (output, attention weights), got ndarray"),
        ("return None", "forward: expected (output, attention weights), got NoneType"),
        ("import numpy; return numpy.nan * queries, numpy.ones(3)", "expected shape"),
        ("return queries.astype(object), queries", "forward: expected an array of floating numbers, got object"),
        ("return queries + 0j, queries", "forward: expected an array of floating numbers, got complex"),
        ("return 'output', 'weights'", "forward: expected an array of floating numbers, got <U6"),
        ("raise type('Odd', (Exception,), {'__str__': lambda e: 1 / 0})", "Odd: an error that cannot be printed"),
    ],
)
def test_verify_a_port_that_breaks(tmp_path, body, words):
    port = tmp_path / "port.py"
    port.write_text(BROKEN.format(body))
    result = trihead("verify", "--subject", f"{port}:Port")
    assert result.returncode == 1
    assert words in result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    result = trihead("calibrate", "--subject", f"{port}:Port")
    assert result.returncode == 2
    assert "trihead: Port: expected an answer to hidden 1, heads 1, got " in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            "gradients(self, *x): raise RuntimeError('no luck')",
            "32 cases: RuntimeError: no luck (port.py:33); first book",
        ),
        (
            "gradients(self, *x): return [1.0]",
            "4.1 gradients of inputs: book, float64: gradients: expected {name: array}",
        ),
        ("gradients(self, *x): return {'queries': 'q'}", "gradients: queries: expected an array of floating numbers"),
        ("stages(self, *x): raise SystemExit(0)", "32 cases: SystemExit: 0 (port.py:33); first book, float64"),
        (
            "forward_alone(self, *x): return self.forward(*x)",
            "1.4 asking for weights changes no bit: book, float64: forward_alone: expected an array",
        ),
    ],
)
def test_verify_a_port_whose_optional_method_breaks(tmp_path, method, words):
    """What breaks is the first line, and all else is judged as it was."""
    source = PORT.read_text().replace("class MyPort", "class Port")
    (tmp_path / "port.py").write_text(f"{source}\n    def {method}\n")
    result = trihead("verify", "--subject", tmp_path / "port.py:Port")
    assert result.returncode == 1
    assert words in result.stdout.splitlines()[0]
    broken = "errors in 32 cases" if "32 cases" in words else f"clauses {'1.4' if words.startswith('1.4') else '4.1'}"
    assert f"FAILS: Port: {broken}\n" in result.stdout
    assert re.search(r"2\.1 +output +\d", result.stdout)


def test_a_port_may_import_a_file_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text(PORT.read_text())
    (tmp_path / "port.py").write_text("from beside import MyPort\nclass Port(MyPort): pass\n")
    assert trihead("verify", "--subject", tmp_path / "port.py:Port").returncode == 0


def test_the_report_is_whole_where_sigma_cannot_be_printed():
    result = trihead("verify", "--subject", f"{PORT}:MyPort", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    assert "HOLDS: MyPort" in result.stdout


def test_json_has_no_infinity_and_goes_where_a_link_points(tmp_path):
    port, link = tmp_path / "port.py", tmp_path / "link.json"
    port.write_text(PORT.read_text().replace("joined =", "context[:] = np.nan; joined ="))
    link.symlink_to("report.json")
    trihead("verify", "--subject", f"{port}:MyPort", "--json", link)
    assert link.is_symlink()
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert next(row for row in report["clauses"] if row["clause"] == "2.1")["subjects"]["MyPort"]["worst"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--subject", "nobody"],
            "subject: expected one of bert_builtin, equinox_builtin, haiku_builtin, jax_impl, "
            "jax_sharded, keras_builtin, nnx_builtin, ort_builtin, tf_impl, tf_sharded, torch_builtin, torch_impl, "
            "torch_sdpa, torch_sharded or FILE.py:Class, got nobody",
        ),
        (["--subject", f"{PORT}:MyPort", "--known", "no/such.toml"], "no/such.toml: expected entries [[difference]]"),
        (
            ["--subject", f"{PORT}:MyPort", "--device", "cpu"],
            "--device: expected a subject that can be placed, got MyPort",
        ),
        (["--subject", "no/such.py:Port"], "subject: expected a file, got no/such.py"),
        (["--subject", f"{PORT}:Nobody"], f"subject: expected a class Nobody in {PORT}, got none"),
        (["--subject", f"{PORT}:np"], f"subject: expected a class np in {PORT}, got none"),
        (["--subject", f"{PORT}:MyPort"] * 2, f"--subject: expected different names, got {PORT}:MyPort, {PORT}:MyPort"),
        (["--subject", "__init__"], "or FILE.py:Class, got __init__"),
        (["--subject", f"{PORT}:MyPort", "--json", "-"], "--json: expected a file in an existing folder, got -"),
        (["--subject", f"{PORT}:MyPort", "--json", "."], "--json: expected a file in an existing folder, got ."),
        (["--subject", f"{PORT}:MyPort", "--json", "/no/such/folder/x.json"], "--json: expected a file in an existing"),
    ],
)
def test_bad_use_is_one_line(arguments, words):
    result = trihead("verify", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--subject", "nobody"], "--subject: expected one of torch_impl, jax_impl, tf_impl, got nobody"),
        (["--plot", "bench.txt"], "--plot: expected a file .svg or .png, got bench.txt"),
        (["--page", "no/such/page.md"], "--page: expected a file in an existing folder, got no/such/page.md"),
    ],
)
def test_bad_use_of_bench_is_one_line(arguments, words):
    result = trihead("bench", *arguments)
    assert result.returncode == 2
    assert result.stderr == f"trihead: {words}\n"


def test_a_file_that_does_not_run(tmp_path):
    for text, words in (("class Port(:\n", "SyntaxError"), ("1 / 0\n", "ZeroDivisionError")):
        (tmp_path / "port.py").write_text(text)
        result = trihead("verify", "--subject", tmp_path / "port.py:Port")
        assert result.returncode == 2
        assert f"expected a file that Python can run, got {words}" in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("name = 'oracle'", "subject: expected a name other than the oracle's, got 'oracle'"),
        ("name = 7", "subject: expected a name other than the oracle's, got 7"),
        ("dtypes = None", "subject: expected dtypes of float64, float32, bfloat16, float16, got None"),
        ("dtypes = 'float32'", "got 'float32'"),
        ("dtypes = ('float8',)", "got ('float8',)"),
        ("dtypes = ()", "subject: expected dtypes of float64, float32, bfloat16, float16, got ()"),
        ("inputs = 'x'", "subject: expected inputs to be 'any' or 'self', got 'x'"),
        ("square = 'no'", "subject: expected square to be False or True, got 'no'"),
        ("bias = True", "subject: expected bias to be 'any' or 'never' or 'always', got True"),
        ("masks = ('padding',)", "expected masks of none, lengths, lengths per query, causal, got ('padding',)"),
        ("empty = 2", "subject: expected empty to be True or False, got 2"),
        ("attention_weights = None", "to be 'per head' or 'averaged' or 'none', got None"),
        ("rows_without_key = 'NaN'", "to be 'uniform' or 'zeros' or 'nan' or 'undefined', got 'NaN'"),
        ("lowest_score = 1e9", "subject: expected lowest_score to be a negative number or None, got 1000000000.0"),
    ],
)
def test_a_class_that_claims_what_there_is_not(tmp_path, attribute, words):
    (tmp_path / "port.py").write_text(BROKEN.format("pass") + f"    {attribute}\n")
    result = trihead("verify", "--subject", tmp_path / "port.py:Port")
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_class_that_is_no_port(tmp_path):
    (tmp_path / "port.py").write_text("class Port:\n    def build(self): pass\n")
    result = trihead("verify", "--subject", tmp_path / "port.py:Port")
    assert result.returncode == 2
    assert "expected Port to have build and forward, got no forward" in result.stderr


@pytest.mark.parametrize(
    "command",
    ["", "verify", "diagnose", "faults", "cases", "convert", "calibrate", "doctor", "bench", "heads", "heads show"],
)
def test_help_has_an_example(command):
    result = trihead(*command.split(), "--help")
    assert result.returncode == 0
    assert "trihead" in result.stdout
    assert not command or "Example: " in result.stdout


def test_calibrate_a_port():
    result = trihead("calibrate", "--subject", f"{PORT}:MyPort", "--dtype", "float32")
    assert result.returncode == 0, result.stderr
    assert [line.split()[2] for line in result.stdout.splitlines()[1:]] == ["output", "attention"]
    bad = trihead("calibrate", "--dtype", "float8")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)


def test_doctor_with_no_framework(tmp_path):
    """Says so; that there is nothing to judge is no failure."""
    for framework in FRAMEWORKS:
        for module in framework.modules:
            (tmp_path / f"{module}.py").write_text("raise ModuleNotFoundError('no such module')")
    path = f"{tmp_path}:{PORT.parents[1]}"
    result = trihead("doctor", env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "torch_impl                   not installed: " in result.stdout
    assert "None of the three is installed: pip install 'trihead[torch]'" in result.stdout
    assert "FAILS" not in result.stdout


def test_doctor():
    result = trihead("doctor")
    assert result.returncode == 0, result.stderr
    for words in ("python", "torch_impl: devices", "jax_impl: float64", "tf_impl: devices", "HOLDS"):
        assert words in result.stdout
