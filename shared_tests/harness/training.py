"""A small classifier of handwritten digits, to train, and the oracle of its training.

An image is a sequence of its 8 rows, each 8 pixels and the row's place. One multi-head attention
layer looks at the rows, the mean over them is taken, and a linear head names the digit. The training
itself is a capability of our own subjects (`Implementation.train`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from shared_tests.cases.case import GOLDENS, Trial, as_rows, canonical_shapes
from shared_tests.cases.table import DIGITS
from shared_tests.harness import oracle
from shared_tests.harness.rounding import FORMATS, Array, Format, Rounded, affine, to_format
from shared_tests.storage import read_arrays

CLASSES = 10
BETAS = 1 - 2.0**-3, 1 - 2.0**-10
"""Adam's decay rates. Keras rounds them, and learning rates, to float32, in float64 too: so these are powers of two."""
EPSILON = 1e-30
"""Adam's. Keras adds it at another place than PyTorch and optax: one too small to matter makes them one."""

STEPS, BATCH_SIZE = 20, 8
RATES = {"sgd": 2.0**-3, "adam": 2.0**-10}
"""The training that is compared: its optimizers and their learning rates."""


def initial_parameters(seed: int = 0) -> dict[str, Array]:
    """Canonical parameters of the layer, and the head's, uniform as Glorot & Bengio (2010) have it."""
    random = np.random.default_rng(seed)
    shapes = canonical_shapes(DIGITS) | {"head.weight": (CLASSES, DIGITS.num_hiddens)}
    parameters = {}
    for name, shape in shapes.items():
        limit = np.sqrt(6 / sum(shape))
        parameters[name] = random.uniform(-limit, limit, shape)
    return parameters | {"head.bias": np.zeros(CLASSES)}


def batches(rows: Array, labels: Array, size: int, epochs: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Batches of rows and labels, in a new random order each epoch."""
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(len(rows))
        for start in range(0, len(rows), size):
            chosen = order[start : start + size]
            yield rows[chosen], labels[chosen]


def compared_batches() -> list[tuple[Array, Array]]:
    """The batches of the training that is compared: the first of the golden images."""
    golden = read_arrays(GOLDENS / "digits_held_out.safetensors")
    return list(batches(as_rows(golden["images"]), golden["labels"].astype(np.int64), BATCH_SIZE, 1))[:STEPS]


@dataclass
class Optimizer:
    """Plain SGD or Adam (Kingma & Ba 2015). An error in a parameter or a gradient is in all that follows from it."""

    name: str
    rate: float
    step: int = 0
    first: dict[str, Rounded] = field(default_factory=dict)
    second: dict[str, Rounded] = field(default_factory=dict)

    def update(self, name: str, parameter: Rounded, gradient: Rounded) -> Rounded:
        """The parameter after this step."""
        change = gradient if self.name == "sgd" else self._adam(name, gradient)
        return parameter - change * self.rate

    def _adam(self, name: str, gradient: Rounded) -> Rounded:
        """The mean of the gradients so far, over the root of the mean of their squares."""
        beta_1, beta_2 = BETAS
        first, second = gradient * (1 - beta_1), gradient * gradient * (1 - beta_2)
        if self.step > 1:
            first, second = self.first[name] * beta_1 + first, self.second[name] * beta_2 + second
        self.first[name], self.second[name] = first, second
        scale = (second / self._correction(beta_2, gradient.form)).sqrt()
        return first / self._correction(beta_1, gradient.form) / (scale + Rounded.exact(EPSILON, gradient.form))

    def _correction(self, beta: float, form: Format) -> Rounded:
        """1 - beta^step, whose error is that of a power, beside which it is small; few keep it in float64."""
        power = beta**self.step
        return Rounded.of(1 - power, form.unit / np.sqrt(3) * (self.step + 1) * power, form)


def reference(optimizer: str, dtype: str) -> Iterator[tuple[Rounded, dict[str, Rounded]]]:
    """The loss of every compared batch and the parameters after its step, each with the noise of training so far."""
    rule, form = Optimizer(optimizer, RATES[optimizer]), FORMATS[dtype].seeded(optimizer, dtype)
    parameters = {name: Rounded.exact(to_format(x, dtype), form) for name, x in initial_parameters().items()}
    for rows, labels in compared_batches():
        rule.step += 1
        x = to_format(rows, dtype)
        trial = Trial(f"{optimizer}, step {rule.step}", DIGITS, dtype, {}, x, x, x, None, x[:0])
        loss, gradients = classify(trial, parameters, labels)
        parameters = {name: rule.update(name, parameter, gradients[name]) for name, parameter in parameters.items()}
        yield loss, parameters


def classify(trial: Trial, parameters: Mapping[str, Rounded], labels: Array) -> tuple[Rounded, dict[str, Rounded]]:
    """The mean cross-entropy of a batch, the queries of the trial, and its gradient by every parameter."""
    layer = {name: parameter for name, parameter in parameters.items() if not name.startswith("head")}
    stages = oracle.forward(trial, layer)
    (batch, length, _), head = trial.queries.shape, parameters["head.weight"]
    pooled = stages["output"].sum(axis=1) / length
    logits = affine(pooled, head.T, parameters["head.bias"])
    row, target = logits.softmax(), np.arange(CLASSES) == labels[:, None]
    losses = row[np.nonzero(target)].log()
    slopes = (row - Rounded.exact(target, row.form)) / batch
    cotangent = ((slopes @ head)[:, None] / length) * slopes.ones(batch, length, 1)
    gradients = oracle.backward(trial, stages, cotangent, layer)
    gradients |= {"head.weight": slopes.T @ pooled, "head.bias": slopes.sum(axis=0)}
    return losses.sum(axis=0) / -batch, gradients
