"""Annotations and examples of the three packages do not lie: both are run."""

import doctest
import importlib
import subprocess
import sys

import pytest

from shared_tests.frameworks import OURS

CHECKED = """
import inspect
import sys
from jaxtyping import TypeCheckError, install_import_hook

read = inspect.getfullargspec  # by which Keras reads a constructor, without looking through decorators
inspect.getfullargspec = lambda function: read(inspect.unwrap(function))
name = sys.argv[1]
with install_import_hook(name, "beartype.beartype"):
    __import__(name)

from shared_tests.cases.case import draw
from shared_tests.cases.table import CASES
from shared_tests.harness.find import find

subject = find(name)
for case in ("book", "lengths per query", "additive", "bias, lengths per query", "zero lengths"):
    trial = draw(case, CASES[case], "float32")
    model = subject.build(trial.config, trial.parameters, "float32")
    subject.forward(model, *trial.inputs)
    subject.gradients(model, *trial.inputs, trial.cotangent)
    subject.stages(model, *trial.inputs)
    subject.backend.run(model[0], *trial.inputs, dtype="float32")
    subject.package.load_weights(model[0], subject.package.export_weights(model[0]))
    subject.prune_heads(model, [0])
    subject.head_importance(model, [(*trial.inputs, trial.cotangent)])
    if not trial.config.scoring.claim:
        layer, _ = subject.fused(trial.config, trial.parameters, "float32")
        subject.backend.run(layer, *trial.inputs, dtype="float32")
try:
    subject.package.masked_softmax([[1.0]])
except TypeCheckError:
    print("checked")
"""


@pytest.mark.parametrize("package", OURS)
def test_annotations_hold(package):
    """In a process of its own, where jaxtyping checks every argument and result of the package."""
    done = subprocess.run([sys.executable, "-c", CHECKED, package], capture_output=True, text=True)
    assert done.stdout == "checked\n", done.stderr


@pytest.mark.parametrize("module", ["attention", "fused", "heads", "multihead", "parallel", "weights"])
def test_examples_print_what_they_say(subject, module):
    found = importlib.import_module(f"{subject.name}.{module}")
    result = doctest.testmod(found, extraglobs=vars(subject.package))
    assert result.attempted > 0
    assert result.failed == 0
