"""What a port's calls and models have of each other, and arrays that are laid out in another way."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness.asking import ask
from shared_tests.harness.claimed import by_claim, unchanged
from shared_tests.harness.compare import Verdict
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject
from shared_tests.harness.truth import Truth

INPUTS = ("queries", "keys", "values")


def calls(subject: Subject, trial: Trial) -> Iterator[tuple[str, Verdict]]:
    """An array that was returned is nobody's but the caller's, and a model's parameters are its own."""
    model = subject.build(trial.config, deepcopy(trial.parameters), trial.dtype)
    result: Any = subject.forward(model, *deepcopy(trial.inputs))
    held = np.asarray(result[0] if isinstance(result, (tuple, list)) else result)  # not copied
    before = held.copy()
    ask(subject, model, trial.reversed())
    yield "7.7", unchanged(held, before, "an output, after the next call")
    ask(subject, subject.build(trial.config, halved(trial), trial.dtype), deepcopy(trial))
    after = ask(subject, model, deepcopy(trial)).output
    yield "7.7", unchanged(after, before, "the output, after another model was built")


def other_arrays(subject: Subject, trial: Trial, truth: Truth) -> Iterator[tuple[str, Verdict]]:
    """The same numbers as arrays of another layout, or lengths of another dtype."""
    model = subject.build(trial.config, deepcopy(trial.parameters), trial.dtype)
    for form, changed in other_forms(trial).items():
        verdict = by_claim(ask(subject, model, changed).output, truth.stages["output"], trial)
        yield "7.8", replace(verdict, what=f"output, {form}")


def halved(trial: Trial) -> dict[str, Array]:
    """Other parameters: half of each."""
    return {name: array * array.dtype.type(0.5) for name, array in trial.parameters.items()}


def other_forms(trial: Trial) -> dict[str, Trial]:
    """The same trial, by what is laid out otherwise in it."""
    strided: dict[str, Any] = {x: np.repeat(getattr(trial, x), 2, axis=-1)[..., ::2] for x in INPUTS}
    forms = {"inputs with strides": replace(trial, **strided)}
    if trial.valid_lens is not None:
        forms["lengths of int32"] = replace(trial, valid_lens=trial.valid_lens.astype(np.int32))
    return forms
