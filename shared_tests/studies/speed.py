"""How much faster and smaller a layer is without some of its heads, in each framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared_tests.harness.find import find
from shared_tests.studies.bench import Shape, seconds

SHAPE = Shape(batch=8, length=512, hidden=512, heads=8)
KEPT = (6, 4, 2)
NUMBER = 4
"""Bytes of a float32."""
TITLES = ("subject", "heads", "time / whole", "quartiles", "heads / whole", "parameters", "bytes")


@dataclass(frozen=True)
class Speed:
    """The forward pass of a pruned layer beside the whole one's: both in each of the interleaved rounds."""

    subject: str
    kept: int
    of: int
    ratio: float
    """The median over rounds of time of the pruned layer / time of the whole."""
    quartiles: tuple[float, float]
    parameters: int
    whole_parameters: int

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        return (
            self.subject,
            f"{self.kept} of {self.of}",
            f"{self.ratio:.2f}",
            f"{self.quartiles[0]:.2f}–{self.quartiles[1]:.2f}",
            f"{self.kept / self.of:.2f}",
            f"{self.parameters:,} of {self.whole_parameters:,}",
            f"{self.parameters * NUMBER:,}",
        )


def speeds(name: str, shape: Shape, rounds: int) -> Iterator[Speed]:
    """One of the three: self attention in float32, the heads that stay being the first."""
    subject = find(name)
    whole = subject.make("MultiHeadAttention", **shape.config, dropout=0.0), "float32"
    x = np.random.default_rng(0).normal(size=(shape.batch, shape.length, shape.hidden)).astype(np.float32)
    pruned = {kept: subject.prune_heads(whole, range(kept, shape.heads)) for kept in KEPT if kept < shape.heads}
    models = {shape.heads: whole} | pruned
    with subject.backend.numbers("float32"):
        calls = {n: subject.backend.timed(layer, x, shape.valid_lens, False, False) for n, (layer, _) in models.items()}
        for call in calls.values():
            call()
        took = np.array([[seconds(call, 1) for call in calls.values()] for _ in range(rounds)])
    sizes = [sum(x.size for x in subject.export_weights(model).values()) for model in models.values()]
    ratios = took / took[:, :1]
    for place, kept in enumerate(models):
        low, high = np.percentile(ratios[:, place], [25, 75])
        median = float(np.median(ratios[:, place]))
        yield Speed(name, kept, shape.heads, median, (float(low), float(high)), sizes[place], sizes[0])
