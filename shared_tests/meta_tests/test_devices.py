"""Subjects run on the device that they are put on: here, a second CPU that JAX and TensorFlow make up."""

import json
import subprocess
import sys

import pytest

from shared_tests.frameworks import OURS

SECOND = """
import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
name, device = sys.argv[1:]
if name == "tf_impl":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from shared_tests import judge
from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.harness.find import find

subject = find(name)
subject.backend.place(device)
cases = {case: CASES[case] for case in ("book", "additive", "lengths per query")}
report = judge(subject, cases=cases)
trial = draw("bias", CASES["bias"], "float64")
layer, _ = subject.build(trial.config, trial.parameters, "float64")
places = []
with subject.backend.numbers("float64"):
    output = layer(*(subject.backend.tensor(x, "float64") for x in trial.inputs))
parameters = subject.package.weights.parameters_of(layer).values()
places = [x.value if name == "tf_impl" else x for x in parameters] + [output]
print(json.dumps([report.verdict(), [str(getattr(x, "device", "")).lower() for x in places]]))
"""


@pytest.mark.parametrize("name", ["jax_impl", "tf_impl"])
def test_layers_and_results_are_on_the_second_cpu(name):
    done = subprocess.run([sys.executable, "-c", SECOND, name, "cpu:1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verdict, places = json.loads(done.stdout.splitlines()[-1])
    assert verdict.startswith(f"HOLDS: {name} on cpu:1: "), verdict
    assert len(places) == 9
    assert all(place.endswith(("cpu_1", "cpu:1")) for place in places), places


@pytest.mark.parametrize("name", OURS)
def test_a_device_that_is_not_there_is_one_line(name):
    command = [sys.executable, "-m", "shared_tests", "verify", "--subject", name, "--device", "cuda:7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "trihead: --device: expected one of cpu:0, got cuda:7\n"
