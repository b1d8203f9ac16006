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
from shared_tests.harness.rounding import Array, Rounded, to_format
from shared_tests.storage import read_arrays

CLASSES = 10
BETAS = 1 - 2.0**-3, 1 - 2.0**-10
"""Adam's decay rates. Keras rounds them, and learning rates, to float32, in float64 too: so these are powers of two."""
EPSILON = 1e-30
"""Adam's. Keras adds it at another place than PyTorch and optax: one too small to matter makes them one."""

STEPS, BATCH_SIZE = 20, 8
RATES = {"sgd": 2.0**-3, "adam": 2.0**-10}
"""The training that is compared: its optimizers and their learning rates."""
GROWTH = 1.05
"""By how much a step may amplify the error that the weights already have, since it changes the gradients."""


def initial_parameters(seed: int = 0) -> dict[str, Array]:
    """Canonical weights of the layer, and the head's, uniform as Glorot & Bengio (2010) have it."""
    random = np.random.default_rng(seed)
    shapes = canonical_shapes(DIGITS) | {"head.weight": (CLASSES, DIGITS.num_hiddens)}
    weights = {}
    for name, shape in shapes.items():
        limit = np.sqrt(6 / sum(shape))
        weights[name] = random.uniform(-limit, limit, shape)
    return weights | {"head.bias": np.zeros(CLASSES)}


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
    """Plain SGD or Adam (Kingma & Ba 2015), on values, and on the noise of one step.

    An update is a function of the gradient; its noise is that of the gradient times the slope of
    this function, that of the function's own arithmetic, and one rounding of the updated weight.
    """

    name: str
    rate: float
    step: int = 0
    first: dict[str, Array] = field(default_factory=dict)
    second: dict[str, Array] = field(default_factory=dict)

    def update(self, name: str, weight: Rounded, gradient: Rounded) -> Rounded:
        """The weight after this step."""
        grown = Rounded(weight.value, GROWTH**2 * weight.variance, weight.form)
        rounding = weight.form.unit**2 / 3
        slope: Array | float
        if self.name == "sgd":
            change, slope, roundings = self.rate * gradient.value, self.rate, 1.0
        else:
            change, slope = self._adam(name, gradient.value)
            roundings = 8 + _correction(BETAS[0], self.step) + _correction(BETAS[1], self.step) / 4
        variance = slope**2 * gradient.variance + roundings * rounding * change**2
        return grown - Rounded(change, variance, weight.form)

    def _adam(self, name: str, gradient: Array) -> tuple[Array, Array]:
        """The change of a weight, and the slope of the change with respect to the gradient."""
        (beta_1, beta_2), step = BETAS, self.step
        first = beta_1 * self.first.get(name, 0.0) + (1 - beta_1) * gradient
        second = beta_2 * self.second.get(name, 0.0) + (1 - beta_2) * gradient**2
        self.first[name], self.second[name] = first, second
        mean, scale = first / (1 - beta_1**step), np.sqrt(second / (1 - beta_2**step)) + EPSILON
        of_mean = (1 - beta_1) / (1 - beta_1**step) / scale
        of_scale = mean / scale**2 * (1 - beta_2) / (1 - beta_2**step) * gradient / scale
        return self.rate * mean / scale, self.rate * (np.abs(of_mean) + np.abs(of_scale))


def _correction(beta: float, step: int) -> float:
    """The variance of a bias correction 1 - beta^step, in single roundings: it cancels, and few keep it in float64."""
    power = beta**step
    return ((step + 1) * power / (1 - power)) ** 2


def reference(optimizer: str, dtype: str) -> Iterator[tuple[Rounded, dict[str, Rounded]]]:
    """The loss of every compared batch and the weights after its step, each with the noise of training so far.

    The noise of each step's own arithmetic is added up; that an error in the weights also changes the later
    gradients is left to the growth that `GROWTH` states.
    """
    rule = Optimizer(optimizer, RATES[optimizer])
    weights = {name: Rounded.exact(to_format(array, dtype), dtype) for name, array in initial_parameters().items()}
    for rows, labels in compared_batches():
        rule.step += 1
        loss, gradients = classify(weights, to_format(rows, dtype), labels, dtype)
        weights = {name: rule.update(name, weight, gradients[name]) for name, weight in weights.items()}
        yield loss, weights


def classify(
    weights: Mapping[str, Rounded], rows: Array, labels: Array, dtype: str
) -> tuple[Rounded, dict[str, Rounded]]:
    """The mean cross-entropy of a batch and its gradient by every weight, with the noise of computing them once."""
    layer = {name: weight.value for name, weight in weights.items() if not name.startswith("head")}
    trial = Trial("digits", DIGITS, dtype, layer, rows, rows, rows, None, rows[:0])
    stages = oracle.forward(trial)
    length, head = rows.shape[1], Rounded.exact(weights["head.weight"].value, dtype)
    pooled = stages["output"].sum(axis=1) / length
    logits = pooled @ head.T + Rounded.exact(weights["head.bias"].value, dtype)
    slopes, losses = logits.zeros(*logits.value.shape), logits.zeros(len(labels))
    for b, label in enumerate(labels):
        row = logits[b].softmax()
        target = row.zeros(CLASSES)
        target.value[label] = 1
        slopes[b] = row - target
        losses[b] = row[label].log()
    slopes = slopes / len(labels)
    cotangent = (slopes @ head)[:, None, :] / length
    cotangent = cotangent * cotangent.ones(len(rows), length, 1)
    gradients = oracle.backward(trial, stages, cotangent)
    gradients |= {"head.weight": slopes.T @ pooled, "head.bias": slopes.sum(axis=0)}
    return losses.sum(axis=0) / -len(labels), gradients
