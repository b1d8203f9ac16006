"""Attention weights to look at: of the book's call, of handwritten digits, of a trained BERT."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared_tests.cases import minilm
from shared_tests.cases.case import GOLDENS, Trial, draw
from shared_tests.cases.table import CASES, MINILM, REAL
from shared_tests.harness import oracle
from shared_tests.harness.asking import ask
from shared_tests.harness.errors import in_words
from shared_tests.harness.find import missing
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.subject import claims
from shared_tests.storage import read_arrays

DTYPE = "float64"
SENTENCE = "The animal didn't cross the street because it was too tired."
DIGITS = (0, 1, 7)


@dataclass(frozen=True)
class Example:
    """Calls of a layer, each of which gives a row of heads for every entry of its batch."""

    trials: list[Trial]
    row_labels: list[str]
    words: list[str] | None = None
    """Of queries and keys, if they have any."""

    @property
    def valid_lens(self) -> Array:
        """(rows, queries)."""
        return np.concatenate([trial.lengths for trial in self.trials])

    def attention_weights(self, subject: Any) -> Array:
        """(rows, heads, queries, keys). Raises ValueError, in one line, if a subject does not give them."""
        return np.concatenate([_of(subject, trial) for trial in self.trials])

    def truth(self) -> Expected:
        """The oracle's (rows, heads, queries, keys), with sigma."""
        found = [oracle.forward(trial)["attention_weights"].expected for trial in self.trials]
        return Expected(*(np.concatenate(arrays) for arrays in zip(*((x.value, x.sigma) for x in found), strict=True)))


def _of(subject: Any, trial: Trial) -> Array:
    assert trial.case is not None
    if not claims(subject, trial.case, trial.dtype):
        raise ValueError(f"subject: expected one that claims the case {trial.name!r}, per head, got {subject.name}")
    try:
        answer = ask(subject, subject.build(trial.config, trial.parameters, trial.dtype), trial)
    except Exception as error:  # a port may raise anything
        raise ValueError(f"{subject.name}: expected attention weights, got {in_words(error)}") from error
    found: Array = answer.attention_weights
    expected = len(trial.queries), trial.config.num_heads, trial.queries.shape[1], trial.keys.shape[1]
    if found.shape != expected:
        raise ValueError(f"{subject.name}: expected attention weights {expected}, got {found.shape}")
    return found


def book(_sentence: str) -> Example:
    """The book's call: 2 sequences, 5 heads, 4 queries, 6 keys, of which 3 and 2 are valid; weights are random."""
    return Example([draw("book", CASES["book"], DTYPE)], ["sequence 1", "sequence 2"])


def digits(_sentence: str) -> Example:
    """A layer that was trained on images of 8 x 8 pixels, whose rows attend to each other."""
    trial = draw("digits", CASES["digits"], DTYPE)
    labels = read_arrays(GOLDENS / "digits_held_out.safetensors")["labels"][: len(trial.queries)].tolist()
    x = trial.queries[[labels.index(digit) for digit in DIGITS]]
    return Example([replace(trial, queries=x, keys=x, values=x)], [f"a {digit}" for digit in DIGITS])


def trained_bert(sentence: str) -> Example:
    """The six layers of a trained BERT, each given what it reads of a sentence."""
    if minilm.folder() is None:
        raise minilm.missing()
    try:
        module = importlib.import_module("shared_tests.subjects._minilm")
    except ModuleNotFoundError as error:
        raise missing("minilm", error) from error
    model = module.MiniLM()
    tokens = model.tokens([sentence])
    inputs = model.run(tokens).inputs
    trials = [
        Trial(name, MINILM, DTYPE, _parameters(name), x, x, x, None, np.zeros_like(x), case=REAL[name])
        for name, x in zip(minilm.names(), inputs, strict=True)
    ]
    return Example(trials, [f"Layer {i + 1}" for i in range(len(trials))], model.words(tokens)[0])


def _parameters(name: str) -> dict[str, Array]:
    return {key: array.astype(DTYPE) for key, array in minilm.layer(name).items()}


EXAMPLES: dict[str, Callable[[str], Example]] = {"book": book, "digits": digits, "minilm": trained_bert}
"""By name. Each takes a sentence, which only the one that reads words looks at."""
