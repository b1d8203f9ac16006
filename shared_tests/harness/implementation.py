"""Subjects that are made with a framework; and our own packages, which open their whole public surface to the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.cases.refusals import LAYERS
from shared_tests.harness.backend import Backend
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject

PARAMETERLESS = ("DotProductAttention", "FusedDotProductAttention")
"""Classes that have no parameters, hence in PyTorch and JAX no dtype."""


class OfFramework(Subject):
    """A subject made with a framework, through the framework's backend."""

    framework: type[Backend]
    concurrent = True

    def __init__(self) -> None:
        self.backend = self.framework()

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where layers and tensors are made."""
        return self.backend.device


class Implementation(OfFramework):
    """One of our own packages. A subclass makes layers, finds gradients and trains; a model is (layer, dtype)."""

    dtypes = ("float64", "float32", "bfloat16", "float16")
    additive = True
    pruned = True
    package: ModuleType
    keeps_weights = True
    """Whether a scoring module keeps the attention weights of its last eager call, as the book's does."""

    # Layers

    def make(self, name: str, *arguments: Any, dtype: str = "float32", **options: Any) -> Any:
        """A layer of the package's class `name`, with dropout off."""
        raise NotImplementedError

    def blank(self, config: Config, dtype: str, module: str = "", dropout: float = 0.0) -> Any:
        """A `MultiHeadAttention` of these sizes; its scoring module is of the class `module`, or what `config` asks."""
        scoring = config.scoring
        options: dict[str, Any] = {"dropout": dropout, "dtype": dtype}
        attention = None  # what the layer makes by itself
        if module or scoring.claim:
            sizes = {} if module else scoring.sizes(config.head_dim)
            attention = self.make(module or scoring.module, **(options | sizes))
        return self.make("MultiHeadAttention", **config, **options, attention=attention)

    def build(
        self, config: Config, weights: Mapping[str, Array], dtype: str, module: str = "", dropout: float = 0.0
    ) -> Any:
        """The layer with these parameters, and its dtype; module and dropout as for `blank`."""
        layer = self.blank(config, dtype, module, dropout)
        with self.backend.numbers(dtype):
            self.package.load_weights(layer, weights)
        return layer, dtype

    def fused(self, config: Config, weights: Mapping[str, Array], dtype: str, dropout: float = 0.0) -> Any:
        """The layer with these parameters and `FusedDotProductAttention`, and its dtype."""
        return self.build(config, weights, dtype, "FusedDotProductAttention", dropout)

    def reseed(self, layer: Any) -> None:
        """Starts the randomness of the dropout of a layer's scoring module over."""
        raise NotImplementedError

    def training(self, layer: Any) -> Any:
        """The layer with dropout on, called as the layer is."""
        raise NotImplementedError

    # What is judged

    def forward(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """Calls the layer for its output and attention weights."""
        layer, dtype = model
        output, weights = self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype, need_weights=True)
        return output, weights

    def forward_alone(self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None) -> Array:
        """Calls the layer for its output alone."""
        layer, dtype = model
        output: Array = self.backend.run(layer, queries, keys, values, valid_lens, dtype=dtype)
        return output

    def stages(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> dict[str, Array]:
        """Walks the layer by its public parts."""
        layer, dtype = model
        heads, batch = layer.num_heads, len(queries)
        per_head = None if valid_lens is None else np.repeat(valid_lens, heads, axis=0)
        stages = self.backend.run(self.walk, layer, queries, keys, values, per_head, dtype=dtype)
        names = [f"{how}_{x}" for how in ("projected", "split") for x in ("queries", "keys", "values")]
        names += ["scores", "attention_weights", "context", "concatenation", "output"]
        flat = ("split_queries", "split_keys", "split_values", "scores", "attention_weights", "context")
        return {
            name: stage.reshape(batch, heads, *stage.shape[1:]) if name in flat else stage
            for name, stage in zip(names, stages, strict=True)
        }

    def walk(self, layer: Any, queries: Any, keys: Any, values: Any, valid_lens: Any) -> tuple[Any, ...]:
        """The stages as tensors, of which those of heads are (batch * heads, ...); valid_lens is per head."""
        projected = layer.W_q(queries), layer.W_k(keys), layer.W_v(values)
        split = [self.package.transpose_qkv(x, layer.num_heads) for x in projected]
        scores = layer.attention.score(*split[:2])
        attention_weights = self.package.masked_softmax(scores, valid_lens)
        context = attention_weights @ split[2]
        concatenation = self.package.transpose_output(context, layer.num_heads)
        return *projected, *split, scores, attention_weights, context, concatenation, layer.W_o(concatenation)

    def gradients(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None, cotangent: Array
    ) -> dict[str, Array]:
        """By "queries", "keys", "values" and each canonical parameter name."""
        raise NotImplementedError

    def head_importance(self, model: Any, batches: Sequence[tuple[Array | None, ...]]) -> Array:
        """(heads,), for the loss sum(output * cotangent); a batch is (queries, keys, values, valid_lens, cotangent)."""
        layer, dtype = model
        with self.backend.numbers(dtype):
            tensors = [tuple(None if x is None else self.backend.tensor(x, dtype) for x in batch) for batch in batches]
            found: Array = self.package.head_importance(layer, self.weighted_sum, tensors)
        return found

    @staticmethod
    def weighted_sum(layer: Any, queries: Any, keys: Any, values: Any, valid_lens: Any, cotangent: Any) -> Any:
        """sum(output * cotangent), a tensor."""
        return (layer(queries, keys, values, valid_lens) * cotangent).sum()

    def prune_heads(self, model: Any, heads: Iterable[int]) -> Any:
        """The model without these heads."""
        layer, dtype = model
        return self.package.prune_heads(layer, heads), dtype

    def with_mask(self, model: Any, keep: Array) -> Any:
        """The model in training, its scoring module's dropout replaced by one that multiplies by `keep`."""
        raise NotImplementedError

    def export_weights(self, model: Any) -> dict[str, Array]:
        """The canonical dict."""
        layer, _ = model
        exported: dict[str, Array] = self.package.export_weights(layer)
        return exported

    def train(
        self,
        config: Config,
        weights: Mapping[str, Array],
        batches: Iterable[tuple[Array, Array]],
        optimizer: str,
        rate: float,
        dtype: str,
    ) -> Iterator[tuple[float, dict[str, Array]]]:
        """Trains the digits classifier: yields the loss of every batch, and all parameters after its step.

        optimizer: "sgd" or "adam". weights: those of the layer, "head.weight" and "head.bias".
        """
        raise NotImplementedError

    def callable(self, call: str) -> Callable[..., Any]:
        """What a row of the table of refusals calls: a class, a function, or a layer ready to be called."""
        if call in LAYERS:
            name, sizes = LAYERS[call]
            layer = self.make(name, **sizes)
            return partial(getattr(self.package, call), layer) if hasattr(self.package, call) else layer
        found: Callable[..., Any] = getattr(self.package, call)
        return (lambda **arguments: self.make(call, **arguments)) if isinstance(found, type) else found
