"""What a record holds of a subject: its answers to every case and training, each with a digest of what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Trial, draw
from shared_tests.cases.table import CASES, DIGITS
from shared_tests.harness import oracle
from shared_tests.harness.asking import ask, ask_gradients, floating
from shared_tests.harness.by_clause import with_key
from shared_tests.harness.claimed import like
from shared_tests.harness.claims import asked, masks_all
from shared_tests.harness.questions import Question
from shared_tests.harness.rounding import Array, Rounded, to_format
from shared_tests.harness.subject import offers
from shared_tests.harness.training import RATES, compared_batches, initial_parameters, reference

Arrays = dict[str, Array]
Numbers = dict[str, Rounded]
GRADIENT = "gradient of "
LOSS = "loss"


@dataclass(frozen=True)
class OfTrial:
    """One case in one dtype, as a subject is asked it."""

    trial: Trial

    @property
    def key(self) -> str:
        """Case and dtype: the middle of the names of its arrays."""
        return f"{self.trial.name}/{self.trial.dtype}"

    @property
    def digest(self) -> str:
        """Of all that the subject is given."""
        trial = self.trial
        given = {x: getattr(trial, x) for x in ("queries", "keys", "values", "valid_lens", "cotangent", "keep")}
        heads = {"num_heads": np.array([trial.config.num_heads], np.int64)}
        return Question(trial.config, trial.dtype, heads).given(**trial.parameters, **given).digest

    def answers(self, subject: Any) -> Arrays:
        """The output, the attention weights if it gives any, and the gradients if it offers them."""
        trial = deepcopy(self.trial)
        model = subject.build(trial.config, trial.parameters, trial.dtype)
        model = model if trial.keep is None else subject.with_mask(model, trial.keep)
        answer = ask(subject, model, trial)
        found = {"output": answer.output}
        if answer.attention_weights is not None:
            found["attention_weights"] = answer.attention_weights
        if offers(subject, "gradients"):
            gradients = ask_gradients(subject, model, deepcopy(self.trial))
            found |= {GRADIENT + name: gradient for name, gradient in gradients.items()}
        return found

    def expected(self, subject: Any) -> Numbers:
        """What the oracle gives for each of these, with draws of its error."""
        return as_answers(self.trial, subject, *_calculated(self.trial.name, self.trial.case, self.trial.dtype))

    def claimed(self, subject: Any) -> bool:
        """Whether its scores are ones that the subject claims to mask."""
        if subject.lowest_score is None:
            return True
        scores = _calculated(self.trial.name, self.trial.case, self.trial.dtype)[0]["scores"]
        return masks_all(subject, self.trial, scores.expected)

    def clause(self, array: str) -> str:
        """The clause of the contract that an array is judged by."""
        if self.trial.keep is not None:
            return "8.3"
        if array.startswith(GRADIENT):
            return "4.2" if array.removeprefix(GRADIENT) in self.trial.parameters else "4.1"
        return "2.1" if array == "output" else "2.2"

    def kept(self, array: str, shape: tuple[int, ...], subject: Any) -> Array:
        """Which elements have a meaning: those of rows that the subject leaves undefined have none."""
        if not self.trial.left_out.any():
            return np.ones(shape, bool)
        name = array.removeprefix(GRADIENT)
        if name != array:
            rows = with_key(name, self.trial, subject.inputs == "self")
        else:
            rows = ~like(self.trial.left_out, np.empty(shape))
        return np.broadcast_to(rows.reshape(*rows.shape, *(1,) * (len(shape) - rows.ndim)), shape)


@dataclass(frozen=True)
class OfTraining:
    """The losses of one of the trainings that are compared."""

    optimizer: str
    dtype: str

    @property
    def key(self) -> str:
        return f"training, {self.optimizer}/{self.dtype}"

    @property
    def digest(self) -> str:
        """Of the parameters that it begins with, the batches and the learning rate."""
        rows, labels = (np.concatenate(arrays) for arrays in zip(*compared_batches(), strict=True))
        given = {"rows": rows, "labels": labels, self.optimizer: np.array(RATES[self.optimizer])}
        return Question(DIGITS, self.dtype, {}).given(**initial_parameters(), **given).digest

    def answers(self, subject: Any) -> Arrays:
        start = {name: to_format(array, self.dtype) for name, array in initial_parameters().items()}
        rate = RATES[self.optimizer]
        steps = subject.train(DIGITS, start, compared_batches(), self.optimizer, rate, self.dtype)
        return {LOSS: floating(LOSS, [loss for loss, _ in steps]).astype(self.dtype)}

    def expected(self, subject: Any) -> Numbers:
        losses = [loss for loss, _ in reference(self.optimizer, self.dtype)]
        errors = np.stack([loss.errors for loss in losses], axis=1)
        return {LOSS: Rounded(np.array([loss.value for loss in losses]), errors, losses[0].form)}

    def claimed(self, subject: Any) -> bool:
        return True

    def clause(self, array: str) -> str:
        return "8.1" if self.dtype == "float64" else "8.2"

    def kept(self, array: str, shape: tuple[int, ...], subject: Any) -> Array:
        return np.ones(shape, bool)


Asked = OfTrial | OfTraining


def all_asked(subject: Any, cases: dict[str, Case] | None = None) -> Iterator[Asked]:
    """All that a subject is asked, as far as it claims: on these cases; on everything if there are none given."""
    for name, case in asked(CASES if cases is None else cases, subject).items():
        yield from (OfTrial(draw(name, case, dtype)) for dtype in case.dtypes if dtype in subject.dtypes)
    if cases is None and offers(subject, "train"):
        kinds = [(rule, dtype) for rule in RATES for dtype in ("float64", "float32") if dtype in subject.dtypes]
        yield from (OfTraining(*kind) for kind in kinds)


def as_answers(trial: Trial, subject: Any, stages: Numbers, gradients: Numbers) -> Numbers:
    """What the oracle gives for each array that a subject answers to a trial."""
    weights = stages["attention_weights"]
    if subject.attention_weights == "averaged":
        weights = weights.sum(axis=1) / trial.config.num_heads
    if subject.inputs == "self":
        one = gradients["queries"] + gradients["keys"] + gradients["values"]
        gradients = {n: x for n, x in gradients.items() if n not in ("keys", "values")} | {"queries": one}
    found = {"output": stages["output"], "attention_weights": weights}
    return found | {GRADIENT + name: gradient for name, gradient in gradients.items()}


@lru_cache(1)  # one case is asked of every subject in turn, and its draws are large
def _calculated(name: str, case: Case | None, dtype: str) -> tuple[Numbers, Numbers]:
    assert case is not None
    trial = draw(name, case, dtype)
    stages = oracle.forward(trial)
    return stages, oracle.backward(trial, stages)
