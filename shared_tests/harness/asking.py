"""Asking: a subject's methods called with a trial, and what they returned looked at before anything is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness.errors import UnfitError, in_words
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject


@dataclass(frozen=True)
class Answer:
    """What a subject returned for a trial: two arrays, or for the attention weights None if it gives none."""

    output: Array
    attention_weights: Any


def ask(subject: Subject, model: Any, trial: Trial) -> Answer:
    """Calls `forward`; raises UnfitError unless it returns floating arrays, as the subject claims."""
    result: Any = subject.forward(model, *trial.inputs)
    if subject.attention_weights == "none":
        output = result[0] if isinstance(result, tuple) and result else result
        return Answer(floating("forward", output), None)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise UnfitError(f"forward: expected (output, attention weights), got {type(result).__name__}")
    return Answer(*(floating("forward", array) for array in result))


def ask_alone(subject: Any, model: Any, trial: Trial) -> Array:
    """Calls `forward_alone`; raises UnfitError unless it returns a floating array."""
    return floating("forward_alone", subject.forward_alone(model, *trial.inputs))


def ask_gradients(subject: Any, model: Any, trial: Trial) -> dict[str, Array]:
    """Calls `gradients`; raises UnfitError unless it returns floating arrays by name."""
    return by_name("gradients", subject.gradients(model, *trial.inputs, trial.cotangent))


def by_name(method: str, result: Any) -> dict[str, Array]:
    """What `method` returned, which is to be {name: floating array}."""
    if not isinstance(result, Mapping):
        raise UnfitError(f"{method}: expected {{name: array}}, got {type(result).__name__}")
    return {name: floating(f"{method}: {name}", array) for name, array in result.items()}


def floating(what: str, array: Any) -> Array:
    """A copy of what is to be an array of floating numbers."""
    try:
        found = np.array(array)
    except Exception as error:
        got = f"{type(array).__name__}, of which NumPy makes none: {in_words(error)}"
        raise UnfitError(f"{what}: expected an array of floating numbers, got {got}") from error
    if found.dtype.kind != "f":
        raise UnfitError(f"{what}: expected an array of floating numbers, got {found.dtype}")
    return found
