"""Questions: what a subject is asked, as named arrays that a port in any language can read, and answer in kind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject

METHODS = ("gradients", "stages", "with_mask")
"""The optional methods that files can stand for, each by arrays of its own."""
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Question:
    """One call of a subject's method; before its inputs are known, a model."""

    config: Config
    dtype: str
    arrays: Mapping[str, Array]
    """The model: "num_heads" (1,) int64, parameters by canonical name, and "keep" if dropout is asked for. Its inputs:
    "queries", "keys", "values", "valid_lens" (int64) unless it is None, and "cotangent" if gradients are asked for."""
    answer: Shapes = field(default_factory=dict)
    """What is to be answered."""

    def given(self, **arrays: Array | None) -> Question:
        """The same with more arrays, copied, less those that are None."""
        more = {name: np.array(array) for name, array in arrays.items() if array is not None}
        return replace(self, arrays={**self.arrays, **more})

    def answered(self, shapes: Shapes) -> Question:
        """The same with more to be answered."""
        return replace(self, answer=self.answer | shapes)

    @cached_property
    def digest(self) -> str:
        """Of all that is given, hexadecimal: the same for the same question."""
        digest = hashlib.sha256(self.dtype.encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


class Questioned(Subject):
    """A subject that makes a question of each call, and has claims as data: {attribute, or "methods": value}."""

    live = False

    def __init__(self, claims: Mapping[str, Any]) -> None:
        for claim, value in claims.items():
            if claim != "methods":
                setattr(self, claim, value)
        for method in claims.get("methods", ()):  # a method that is not claimed is none that it has
            setattr(self, method, getattr(self, f"_{method}"))

    def ask(self, question: Question) -> dict[str, Array]:
        """The answer, by the names in `question.answer`."""
        raise NotImplementedError

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Question:
        """The model as a question without inputs."""
        return Question(config, dtype, {"num_heads": np.array([config.num_heads], np.int64)}).given(**weights)

    def forward(
        self, model: Question, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """The output and, if they are claimed, the attention weights."""
        question = _put(model, queries, keys, values, valid_lens)
        shapes = stage_shapes(question)
        wanted = {"output": shapes["output"], "attention_weights": shapes["attention_weights"]}
        if self.attention_weights == "none":
            del wanted["attention_weights"]
        elif self.attention_weights == "averaged":
            wanted["attention_weights"] = (len(queries), *shapes["attention_weights"][2:])
        found: Any = self.ask(question.answered(wanted))
        return found["output"] if len(wanted) == 1 else tuple(found[name] for name in wanted)

    def _gradients(
        self, model: Question, queries: Array, keys: Array, values: Array, valid_lens: Array | None, cotangent: Array
    ) -> dict[str, Array]:
        question = _put(model, queries, keys, values, valid_lens).given(cotangent=cotangent)
        without = {"num_heads", "keep", "valid_lens", "cotangent"}
        without |= {"keys", "values"} if self.inputs == "self" else set()
        return self.ask(question.answered({x: y.shape for x, y in question.arrays.items() if x not in without}))

    def _stages(self, model: Question, *inputs: Array | None) -> dict[str, Array]:
        question = _put(model, *inputs)
        return self.ask(question.answered(stage_shapes(question)))

    def _with_mask(self, model: Question, keep: Array) -> Question:
        return model.given(keep=keep)


def _put(model: Question, queries: Any, keys: Any, values: Any, valid_lens: Any) -> Question:
    lengths = None if valid_lens is None else np.asarray(valid_lens, np.int64)
    return model.given(queries=queries, keys=keys, values=values, valid_lens=lengths)


def stage_shapes(question: Question) -> Shapes:
    """{stage: shape}, as the contract's clause 2.5 has them."""
    heads, depth = question.config.num_heads, question.config.head_dim
    (batch, queries, _), num_keys = question.arrays["queries"].shape, question.arrays["keys"].shape[1]
    lengths = {"queries": queries, "keys": num_keys, "values": num_keys}
    return {
        **{f"projected_{x}": (batch, length, heads * depth) for x, length in lengths.items()},
        **{f"split_{x}": (batch, heads, length, depth) for x, length in lengths.items()},
        "scores": (batch, heads, queries, num_keys),
        "attention_weights": (batch, heads, queries, num_keys),
        "context": (batch, heads, queries, depth),
        "concatenation": (batch, queries, heads * depth),
        "output": (batch, queries, question.config.num_hiddens),
    }
