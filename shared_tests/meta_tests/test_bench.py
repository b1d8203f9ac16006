"""The benchmark measures what it says; and fused attention's memory is linear (clause 9.3)."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from shared_tests.commands.app import app
from shared_tests.frameworks import OURS
from shared_tests.studies import bench
from shared_tests.studies.bench import Shape
from shared_tests.studies.installation import installation, machine, versions

SMALL = Shape(2, 6, 8, 2)


def test_products_are_counted_by_hand():
    """Four projections of 2 * 6 rows by 8 * 8, two products of 2 * 2 heads of 6 * 6 * 4; two operations each."""
    assert SMALL.products == 2 * (4 * 12 * 64 + 2 * 4 * 144)
    assert SMALL.attention_weights == 2 * 2 * 36


def test_lengths_differ():
    assert Shape(8, 512, 512, 8).valid_lens.tolist() == [288, 320, 352, 384, 416, 448, 480, 512]


def test_only_what_fits_is_run():
    assert bench.fits(SMALL, "materialized")
    assert not bench.fits(Shape(1, 2**20, 8, 8), "builtin")
    assert bench.fits(Shape(1, 2**20, 8, 8), "fused")


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("name", OURS)
def test_every_contestant_is_timed(name, device):
    forward, training = (list(bench.times(name, SMALL, step, 1, device)) for step in bench.STEPS)
    assert [t.contestant for t in forward] == list(bench.CONTESTANTS)
    assert [t.contestant for t in training] == ["materialized", "fused", "builtin"]
    medians = {t.contestant: t.median for t in forward}
    assert min(medians.values()) > 0
    for t in forward:
        peer = {"materialized": "builtin, weights", "fused": "builtin"}.get(t.contestant)
        assert t.ratio == (peer and medians[t.contestant] / medians[peer])


@pytest.mark.parametrize("step", bench.STEPS)
def test_no_warning_of_graphs_that_are_meant(caplog, step):
    """TensorFlow counts how often it traces a function, and five in few calls are too many to it."""
    for _ in range(6):
        bench.prepare("tf_impl", "fused", SMALL, step)()
    assert "retracing" not in caplog.text


@pytest.mark.parametrize("name", OURS)
def test_memory_is_linear(name):
    """At length 4096 the weights of 8 heads are 537 MB; the lengths of the batch do not cut that to nothing."""
    shape = Shape(1, 4096, 64, 8)
    for step, most in {"forward": 75, "training": 175}.items():
        added = bench.memory(name, "fused", shape, step).megabytes
        assert 1 < added < most, step  # its output alone is 1 MB


IN_TRAINING = """
import sys
from pathlib import Path
import numpy as np
from shared_tests.studies.bench import _status
from shared_tests.harness.find import find

subject = find(sys.argv[1])
attention = subject.make("FusedDotProductAttention", 0.1)
layer = subject.make("MultiHeadAttention", 256, 256, 256, 256, 4, 0.1, attention=attention)
subject.training(layer)

def step(length):
    x = np.random.default_rng(0).normal(size=(1, length, 256)).astype(np.float32)
    return subject.backend.timed(layer, x, np.arange(1, length + 1)[None], False, True)

step(16)()
call, before = step(8192), _status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
call()
print(_status("VmHWM") - before)
"""


@pytest.mark.parametrize("name", OURS)
def test_memory_with_dropout_and_lengths_per_query_is_less_than_the_weights(name):
    """At length 8192 those of 4 heads are 1074 MB, and a step that holds them needs several such arrays."""
    done = subprocess.run([sys.executable, "-c", IN_TRAINING, name], capture_output=True, text=True, check=True)
    assert 8 < float(done.stdout.split()[-1]) < 1074 * 2 / 3


def test_what_is_published_names_no_variable_of_the_machine(monkeypatch):
    monkeypatch.setenv("TF_SOME_FILE", "/home/someone")
    assert "/home/someone" in installation().values()
    assert "/home/someone" not in (machine() | versions()).values()


def test_a_job_that_fails_costs_no_other_its_figures(monkeypatch, tmp_path):
    jobs = [bench.Job("torch_impl", shape, "forward", "fused") for shape in (Shape(2, 6, 8, 3), SMALL)]
    monkeypatch.setattr(bench, "jobs", lambda *arguments: jobs)
    result = CliRunner().invoke(app, ["bench", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 1
    assert "expected torch_impl fused (2, 6, 8, 3) to run, got: " in result.stderr
    [row] = json.loads((tmp_path / "figures.json").read_text())["memory"]
    assert row["shape"]["heads"] == 2


def test_page_names_all_that_was_measured():
    times = [bench.Time("jax_impl", SMALL, "forward", "fused", 1.0, (0.9, 1.1), 0.5, 0.8)]
    memories = [bench.Memory("jax_impl", SMALL, "forward", "fused", 12.3)]
    page = bench.as_markdown([*times, *memories], {"processor": "any"})
    assert "| (2, 6, 8, 2) | forward | fused | 1 (0.9–1.1) | 0.50 | 0.80 |" in page
    assert "| (2, 6, 8, 2) | jax_impl | not run | 12 | not run | not run |" in page
    assert bench.as_json([*times, *memories], {})["memory"][0]["megabytes"] == 12.3
