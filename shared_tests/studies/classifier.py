"""The digits classifier with 8 heads, as something to prune."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from shared_tests.cases.case import GOLDENS, Trial, as_rows
from shared_tests.cases.table import DIGITS_8_HEADS
from shared_tests.harness import oracle
from shared_tests.harness.pruning import entries
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.training import batches
from shared_tests.storage import read_arrays
from shared_tests.studies.experiment import DTYPE, Experiment, Heads, Recorded

WEIGHED = 120
"""Of 360 images that it was not trained on, how many heads are weighed on; accuracy is that on the others."""
BATCH_SIZE, RATE = 64, 0.01
"""Of retraining, as it was trained."""


class Digits(Experiment):
    """Images of digits: the mean of what one layer gives, and a linear head."""

    name = "digits"
    quality_of = "accuracy"

    def __init__(self, subject: Any) -> None:
        weights = read_arrays(GOLDENS / "digits_8_heads.safetensors")
        self.head = {name: weights.pop(name) for name in ("head.weight", "head.bias")}
        images = read_arrays(GOLDENS / "digits_held_out.safetensors")
        self.rows, self.labels = as_rows(images["images"]), images["labels"].astype(np.int64)
        super().__init__(subject, DIGITS_8_HEADS, [weights])

    def losses(self, removed: Heads) -> Array:
        """Cross entropies."""
        (layer,) = self.pruned(removed)
        probabilities = _softmax(self._logits(layer, self.rows[:WEIGHED], self.head))
        found: Array = -np.log(probabilities[np.arange(WEIGHED), self.labels[:WEIGHED]])
        return found

    def quality(self, removed: Heads) -> float:
        (layer,) = self.pruned(removed)
        return self._accuracy(layer, self.head)

    def retrained(self, removed: Heads, seen: tuple[Array, Array], epochs: int) -> float:
        """Accuracy after training the pruned layer and the head again, on these rows and labels."""
        (layer,) = self.pruned(removed)
        weights = {name: x.astype(np.float32) for name, x in self.subject.export_weights(layer).items()} | self.head
        config = self.trial(removed).config
        given = batches(*seen, BATCH_SIZE, epochs)
        for _, step in self.subject.train(config, weights, given, "adam", RATE, "float32"):
            weights = step
        head = {name: weights.pop(name) for name in self.head}
        return self._accuracy(self.subject.build(config, weights, DTYPE), head)

    def trial(self, removed: Heads = ()) -> Trial:
        """The layer on the images that heads are weighed on; the cotangent is the gradient of each image's loss."""
        (layer,) = self.pruned(removed)
        rows, head = self.rows[:WEIGHED], self.head["head.weight"].astype(np.float64)
        wrong = _softmax(self._logits(layer, rows, self.head)) - np.eye(len(head))[self.labels[:WEIGHED]]
        cotangent = np.repeat((wrong @ head / rows.shape[1])[:, None], rows.shape[1], axis=1)
        weights = {name: x.astype(DTYPE) for name, x in self.weights[0].items()}
        whole = Trial("digits, 8 heads", self.config, DTYPE, weights, rows, rows, rows, None, cotangent)
        return whole.without_heads(sorted(removed))

    def recorded(self) -> list[Recorded]:
        trial = self.trial()
        _, weights = self.subject.forward(self.whole[0], *trial.inputs)
        return [Recorded(entries(trial), weights)]

    def truth(self) -> Expected:
        """The oracle's importance by gradients, (heads,)."""
        trial = self.trial()
        return oracle.importance(trial, oracle.forward(trial)).expected

    def weighed_again(self) -> Iterable[int]:
        removed: list[int] = []
        while len(removed) < self.config.num_heads - 1:
            left = [head for head in range(self.config.num_heads) if head not in removed]
            found = self.subject.head_importance(*self.pruned(removed), entries(self.trial(removed)))
            removed.append(left[int(np.argmin(found))])
        return [*removed, *set(range(self.config.num_heads)).difference(removed)]

    def _accuracy(self, layer: Any, head: dict[str, Array]) -> float:
        found = self._logits(layer, self.rows[WEIGHED:], head).argmax(axis=1)
        return float(np.mean(found == self.labels[WEIGHED:]))

    def _logits(self, layer: Any, rows: Array, head: dict[str, Array]) -> Array:
        output, _ = self.subject.forward(layer, rows, rows, rows, None)
        logits: Array = output.mean(axis=1) @ head["head.weight"].T + head["head.bias"]
        return logits


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
