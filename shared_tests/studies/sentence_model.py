"""The trained BERT as something to prune."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from shared_tests.cases import minilm
from shared_tests.cases.table import MINILM
from shared_tests.harness.find import missing
from shared_tests.harness.rounding import Array
from shared_tests.studies.experiment import Experiment, Heads, Recorded
from shared_tests.studies.sentences import JUDGED, PAIRS


class SentenceModel(Experiment):
    """Sentence embeddings; heads are weighed on pairs that mean the same, which should be found among others."""

    name = "minilm"
    quality_of = "likeness to the whole model's embeddings"

    def __init__(self, subject: Any) -> None:
        if minilm.folder() is None:
            raise minilm.missing()
        try:
            self.module = importlib.import_module("shared_tests.subjects._minilm")
        except ModuleNotFoundError as error:
            raise missing("minilm", error) from error
        super().__init__(subject, MINILM, [minilm.layer(name) for name in minilm.names()])
        self.model = self.module.MiniLM()
        self.pairs = self.model.tokens([pair[i] for group in PAIRS for i in (0, 1) for pair in group])
        self.judged = self.model.tokens(list(JUDGED))
        self.embeddings = self._embed(self.judged, ())

    def losses(self, removed: Heads) -> Array:
        """The contrastive loss of each pair within its group."""
        found: Array = self.model.losses(self.pairs, len(PAIRS), self._attend(removed))
        return found

    def quality(self, removed: Heads) -> float:
        """The mean cosine between the embeddings of a sentence by this model and by the whole one."""
        return float((self._embed(self.judged, removed) * self.embeddings).sum(axis=1).mean())

    def recorded(self) -> list[Recorded]:
        run, lengths = self.model.run(self.pairs), self.module.lengths(self.pairs).numpy()
        batches: list[list[tuple[Array | None, ...]]] = [[] for _ in self.weights]
        for rows in np.split(np.arange(len(lengths)), len(PAIRS)):
            tokens = {name: ids[rows] for name, ids in self.pairs.items()}
            for slopes in self.model.slopes(tokens):  # of one pair
                for layer, (x, slope) in enumerate(zip(run.inputs, slopes, strict=True)):
                    batches[layer].append((x[rows], x[rows], x[rows], lengths[rows], slope))
        length = run.inputs[0].shape[1]
        of_queries = np.where(np.arange(length) < lengths[:, None], lengths[:, None], 0)
        pairs = zip(batches, run.attention_weights, strict=True)
        return [Recorded(of_layer, weights, of_queries) for of_layer, weights in pairs]

    def _embed(self, tokens: Any, removed: Heads) -> Array:
        embeddings: Array = self.model.run(tokens, self._attend(removed)).embeddings
        return embeddings

    def _attend(self, removed: Heads) -> list[Any]:
        return [self.module.of_model(self.subject, layer) for layer in self.pruned(removed)]
