"""A case: what is asked, as data, and the drawing of its numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np

from shared_tests.cases import minilm
from shared_tests.harness.rounding import Array, to_format
from shared_tests.harness.scoring import DOT_PRODUCT, Scoring
from shared_tests.layouts.canonical import without_heads
from shared_tests.storage import read_arrays

Lengths = tuple[int, ...] | tuple[tuple[int, ...], ...] | None
GOLDENS = files("shared_tests") / "goldens"


@dataclass(frozen=True)
class Config:
    """The layer's sizes and its scoring function.

    Reads as attributes, and as a mapping of what the book's constructor takes, `MultiHeadAttention(**config)`: there,
    head_dim only if it is not num_hiddens / num_heads.
    """

    key_size: int
    query_size: int
    value_size: int
    num_hiddens: int
    num_heads: int
    bias: bool = False
    head_dim: int = None  # type: ignore[assignment]  # num_hiddens // num_heads, unless it is given
    scoring: Scoring = DOT_PRODUCT

    def __post_init__(self) -> None:
        if self.head_dim is None:
            if self.num_hiddens % self.num_heads:
                raise ValueError(
                    f"num_hiddens: expected a multiple of num_heads {self.num_heads}, got {self.num_hiddens}"
                )
            object.__setattr__(self, "head_dim", self.num_hiddens // self.num_heads)

    def keys(self) -> Iterator[str]:
        return iter(self._arguments)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    @property
    def _arguments(self) -> dict[str, Any]:
        names = ["key_size", "query_size", "value_size", "num_hiddens", "num_heads", "bias"]
        names += ["head_dim"] if self.num_heads * self.head_dim != self.num_hiddens else []
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Trial:
    """One case in one dtype: all arrays hold numbers of that dtype (bfloat16 as float32)."""

    name: str
    config: Config
    dtype: str
    parameters: dict[str, Array]
    """Canonical name -> array (docs/contract.md, clause 5.2)."""
    queries: Array
    keys: Array
    values: Array
    valid_lens: Array | None
    cotangent: Array
    keep: Array | None = None
    """What dropout makes of each attention weight, times 0 or 1 / (1 - dropout): (batch, heads, queries, keys)."""
    rows_without_key: str = "uniform"
    """What the attention weights of a query are that has no valid key, as `Subject.rows_without_key` has it."""
    case: Case | None = None
    """What it was drawn from."""

    @property
    def inputs(self) -> tuple[Array, Array, Array, Array | None]:
        """What a subject's `forward` takes after the model."""
        return self.queries, self.keys, self.values, self.valid_lens

    @property
    def lengths(self) -> Array:
        """(batch, queries): how many keys each query attends to; 0 for all of them, uniformly."""
        (batch, queries, _), num_keys = self.queries.shape, self.keys.shape[1]
        lengths = np.full(batch, num_keys) if self.valid_lens is None else self.valid_lens
        lengths = lengths[:, None] if lengths.ndim == 1 else lengths
        return np.broadcast_to(np.clip(lengths, 0, num_keys), (batch, queries))

    def reversed(self) -> Trial:
        """The same entries of the batch in reverse."""
        arrays: dict[str, Any] = {x: getattr(self, x)[::-1].copy() for x in ("queries", "keys", "values")}
        return replace(self, **arrays, valid_lens=None if self.valid_lens is None else self.valid_lens[::-1].copy())

    def without_heads(self, heads: Sequence[int]) -> Trial:
        """The layer without some heads."""
        rest = without_heads(self.parameters, heads, self.config.head_dim)
        config = replace(self.config, num_heads=self.config.num_heads - len(heads))
        keep = None if self.keep is None else np.delete(self.keep, list(heads), axis=1)
        return replace(self, config=config, parameters=rest, keep=keep)

    @property
    def left_out(self) -> Array:
        """(batch, queries): rows that are not compared with the oracle, for want of a number to compare with."""
        return (self.lengths == 0) & (self.rows_without_key in ("nan", "undefined"))


@dataclass(frozen=True)
class Case:
    """How to draw one trial. spread and mean are those of the inputs, gain that of the parameters.

    score_bias: added to the bias of W_q and taken from that of W_k, so that scores fall by its
    square times sqrt(head_dim). dropout: if not 0, the layer is in training, and a mask drawn with
    this probability is given to it. trained: parameters and inputs from the goldens in place of
    random ones, with columns of zeros and biases of zero where the layer has more than they. installed:
    those of a layer of a real model, which a package beside this one ships.
    """

    config: Config
    batch: int = 2
    queries: int = 5
    keys: int = 7
    valid_lens: Lengths = None
    spread: float = 1.0
    mean: float = 0.0
    gain: float = 1.0
    score_bias: float = 0.0
    dropout: float = 0.0
    self_attention: bool = False
    trained: str = ""
    installed: str = ""
    dtypes: tuple[str, ...] = ("float64", "float32")
    rows_without_key: str = "uniform"


def draw(name: str, case: Case, dtype: str) -> Trial:
    """Draws a case's numbers, from a seed that its name gives, and rounds them to `dtype`."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if case.installed:
        parameters, arrays = _installed(case)
    else:
        parameters, arrays = _trained(case) if case.trained else (_parameters(case, random), _arrays(case, random))
    queries, keys, values = arrays
    cotangent = random.normal(size=(*queries.shape[:2], case.config.num_hiddens))
    kept = random.random(size=(len(queries), case.config.num_heads, queries.shape[1], keys.shape[1])) >= case.dropout
    return Trial(
        name=name,
        config=case.config,
        dtype=dtype,
        parameters={name: to_format(array, dtype) for name, array in parameters.items()},
        queries=to_format(queries, dtype),
        keys=to_format(keys, dtype),
        values=to_format(values, dtype),
        valid_lens=None if case.valid_lens is None else np.array(case.valid_lens, np.int64),
        cotangent=to_format(cotangent, dtype),
        keep=to_format(kept / (1 - case.dropout), dtype) if case.dropout else None,
        rows_without_key=case.rows_without_key,
        case=case,
    )


def canonical_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape}, each weight (out, in)."""
    width = config.num_heads * config.head_dim
    inputs = {"W_q": config.query_size, "W_k": config.key_size, "W_v": config.value_size, "W_o": width}
    outputs = dict.fromkeys(inputs, width) | {"W_o": config.num_hiddens}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs[name], size) for name, size in inputs.items()}
    if config.bias:
        shapes |= {f"{name}.bias": (size,) for name, size in outputs.items()}
    return shapes | config.scoring.shapes(config.head_dim)


def _parameters(case: Case, random: np.random.Generator) -> dict[str, Array]:
    parameters = {
        name: random.normal(scale=case.gain / np.sqrt(shape[-1]), size=shape)
        for name, shape in canonical_shapes(case.config).items()
    }
    if case.config.bias:
        parameters["W_q.bias"] += case.score_bias
        parameters["W_k.bias"] -= case.score_bias
    return parameters


def _arrays(case: Case, random: np.random.Generator) -> tuple[Array, Array, Array]:
    config, batch = case.config, case.batch
    shapes = [(batch, case.queries, config.query_size)]
    if not case.self_attention:
        shapes += [(batch, case.keys, config.key_size), (batch, case.keys, config.value_size)]
    arrays = [random.normal(case.mean, case.spread, size=shape) for shape in shapes]
    queries, keys, values = arrays if len(arrays) == 3 else arrays * 3
    return queries, keys, values


def _trained(case: Case) -> tuple[dict[str, Array], tuple[Array, Array, Array]]:
    trained = read_arrays(GOLDENS / f"{case.trained}.safetensors")
    parameters = {name: _padded(trained.get(name), shape) for name, shape in canonical_shapes(case.config).items()}
    images = read_arrays(GOLDENS / f"{case.trained}_held_out.safetensors")["images"][: case.batch]
    rows = as_rows(images)
    rows = _padded(rows, (*rows.shape[:2], case.config.query_size))
    return parameters, (rows, rows, rows)


def _installed(case: Case) -> tuple[dict[str, Array], tuple[Array, Array, Array]]:
    weights, sentence = minilm.layer(case.installed), minilm.sentence()
    return {name: weights[name] for name in canonical_shapes(case.config)}, (sentence, sentence, sentence)


def _padded(array: Array | None, shape: tuple[int, ...]) -> Array:
    """The array with zeros after its last column, or zeros alone if it is None."""
    padded = np.zeros(shape)
    if array is not None:
        padded[..., : array.shape[-1]] = array
    return padded


def as_rows(images: Array) -> Array:
    """Images (batch, 8, 8) of 0 to 16 as sequences (batch, 8, 16): pixels of 0 to 1, then the row's place, one-hot."""
    places = np.broadcast_to(np.eye(8), (len(images), 8, 8))
    return np.concatenate([images / 16, places], axis=-1)
