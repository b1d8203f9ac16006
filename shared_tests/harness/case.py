"""Cases: a named table of what is judged, as data, and the drawing of one case's numbers.

Sizes are distinct primes where the layer allows, so that a swapped axis cannot hide.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Any

import numpy as np

from shared_tests.harness.rounding import Array, to_format
from shared_tests.harness.storage import read_arrays

Lengths = tuple[int, ...] | tuple[tuple[int, ...], ...] | None
GOLDENS = files("shared_tests") / "goldens"


@dataclass(frozen=True)
class Config:
    """The layer's sizes. Reads as attributes, and as a mapping: `MultiHeadAttention(**config)`."""

    key_size: int
    query_size: int
    value_size: int
    num_hiddens: int
    num_heads: int
    bias: bool = False

    @property
    def depth(self) -> int:
        """The width of one head."""
        return self.num_hiddens // self.num_heads

    def keys(self) -> Iterator[str]:
        return iter(asdict(self))

    def __getitem__(self, name: str) -> Any:
        return asdict(self)[name]


@dataclass(frozen=True)
class Trial:
    """One case in one dtype: all arrays hold numbers of that dtype (bfloat16 as float32)."""

    name: str
    config: Config
    dtype: str
    weights: dict[str, Array]
    queries: Array
    keys: Array
    values: Array
    valid_lens: Array | None
    cotangent: Array
    keep: Array | None = None
    """What each weight is multiplied by in training, 0 or 1 / (1 - dropout): (batch, heads, queries, keys)."""

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


@dataclass(frozen=True)
class Case:
    """How to draw one trial. spread and mean are those of the inputs, gain that of the weights.

    additive: the hidden width of additive scoring, 0 for dot-product. score_bias: added to the
    bias of W_q and taken from that of W_k, so that scores fall by its square times sqrt(depth).
    dropout: if not 0, the layer is in training, and a mask drawn with this probability is given to it.
    trained: weights and inputs from the goldens in place of random ones.
    """

    config: Config
    batch: int = 2
    queries: int = 5
    keys: int = 7
    valid_lens: Lengths = None
    additive: int = 0
    spread: float = 1.0
    mean: float = 0.0
    gain: float = 1.0
    score_bias: float = 0.0
    dropout: float = 0.0
    self_attention: bool = False
    trained: str = ""
    dtypes: tuple[str, ...] = ("float64", "float32")


CROSS = Config(key_size=7, query_size=5, value_size=11, num_hiddens=12, num_heads=3)
BIASED = replace(CROSS, bias=True)
SELF = Config(key_size=12, query_size=12, value_size=12, num_hiddens=12, num_heads=3, bias=True)
BOOK = Config(key_size=100, query_size=100, value_size=100, num_hiddens=100, num_heads=5)
DIGITS = Config(key_size=16, query_size=16, value_size=16, num_hiddens=64, num_heads=4)
EVERY = ("float64", "float32", "bfloat16", "float16")
RAGGED = ((1, 7, 3, 2, 5), (4, 1, 6, 7, 2))

CASES = {
    "book": Case(BOOK, queries=4, keys=6, valid_lens=(3, 2), dtypes=EVERY),
    "no lengths": Case(CROSS),
    "lengths": Case(CROSS, valid_lens=(3, 6)),
    "lengths per query": Case(CROSS, valid_lens=RAGGED, dtypes=EVERY),
    "causal": Case(SELF, queries=7, valid_lens=((1, 2, 3, 4, 5, 6, 7),) * 2, self_attention=True),
    "zero lengths": Case(CROSS, valid_lens=(0, 3), dtypes=EVERY),
    "zero and negative lengths per query": Case(CROSS, valid_lens=((0, 7, 3, 0, 5), (-4, 1, 0, 7, 2))),
    "lengths beyond the keys": Case(CROSS, batch=4, valid_lens=(8, 1000, 256, 65536)),
    "all lengths zero": Case(CROSS, valid_lens=(0, 0)),
    "single entry, lengths per query": Case(CROSS, batch=1, valid_lens=((1, 7, 3, 2, 5),)),
    "as many entries as queries": Case(CROSS, batch=5, valid_lens=(3, 6, 1, 7, 2)),
    "square lengths per query": Case(CROSS, batch=3, queries=3, valid_lens=((1, 5, 2), (7, 3, 4), (6, 2, 1))),
    "more than one block": Case(CROSS, batch=1, queries=137, keys=149, valid_lens=(139,)),
    "equal scores far below -1e30": Case(BIASED, valid_lens=(3, 6), gain=0.0, score_bias=2.0**55),
    "single query": Case(CROSS, queries=1, valid_lens=(3, 6)),
    "single key": Case(CROSS, keys=1, valid_lens=(1, 0)),
    "single entry": Case(CROSS, batch=1, valid_lens=(4,)),
    "one head": Case(replace(CROSS, num_heads=1), valid_lens=(3, 6)),
    "heads equal hidden": Case(replace(CROSS, num_heads=12), valid_lens=(3, 6)),
    "bias": Case(BIASED, valid_lens=(3, 6)),
    "bias, lengths per query": Case(BIASED, valid_lens=RAGGED, dtypes=EVERY),
    "batch of three": Case(BIASED, batch=3, valid_lens=(7, 1, 4)),
    "self attention": Case(SELF, queries=7, valid_lens=(3, 6), self_attention=True),
    "more queries than keys": Case(CROSS, queries=13, keys=3, valid_lens=(2, 3)),
    "additive": Case(CROSS, valid_lens=(3, 6), additive=17, dtypes=EVERY),
    "additive, lengths per query": Case(BIASED, valid_lens=RAGGED, additive=17),
    "dropout": Case(CROSS, valid_lens=(3, 6), dropout=0.5, dtypes=EVERY),
    "dropout, lengths per query": Case(CROSS, valid_lens=RAGGED, dropout=0.2),
    "dropout, additive": Case(CROSS, valid_lens=(3, 6), additive=17, dropout=0.2),
    "scores far below -1e6": Case(BIASED, valid_lens=(3, 6), score_bias=1300.0),
    "large magnitudes": Case(BIASED, valid_lens=(3, 6), spread=30.0),
    "tiny magnitudes": Case(CROSS, valid_lens=(3, 6), spread=1e-3, dtypes=EVERY),
    "common mean": Case(BIASED, valid_lens=RAGGED, mean=5.0, dtypes=EVERY),
    "empty batch": Case(CROSS, batch=0, dtypes=EVERY),
    "no queries": Case(CROSS, queries=0, valid_lens=(3, 6)),
    "digits": Case(DIGITS, batch=64, queries=8, keys=8, self_attention=True, trained="digits", dtypes=EVERY),
}


def draw(name: str, case: Case, dtype: str) -> Trial:
    """Draws a case's numbers, from a seed that its name gives, and rounds them to `dtype`."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    weights, arrays = _trained(case) if case.trained else (_weights(case, random), _arrays(case, random))
    queries, keys, values = arrays
    cotangent = random.normal(size=(*queries.shape[:2], case.config.num_hiddens))
    kept = random.random(size=(len(queries), case.config.num_heads, queries.shape[1], keys.shape[1])) >= case.dropout
    return Trial(
        name=name,
        config=case.config,
        dtype=dtype,
        weights={name: to_format(array, dtype) for name, array in weights.items()},
        queries=to_format(queries, dtype),
        keys=to_format(keys, dtype),
        values=to_format(values, dtype),
        valid_lens=None if case.valid_lens is None else np.array(case.valid_lens),
        cotangent=to_format(cotangent, dtype),
        keep=to_format(kept / (1 - case.dropout), dtype) if case.dropout else None,
    )


def canonical_shapes(config: Config, additive: int = 0) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape}, each weight (out, in)."""
    hidden = config.num_hiddens
    inputs = {"W_q": config.query_size, "W_k": config.key_size, "W_v": config.value_size, "W_o": hidden}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (hidden, size) for name, size in inputs.items()}
    if config.bias:
        shapes |= {f"{name}.bias": (hidden,) for name in inputs}
    if additive:
        shapes |= {f"attention.{name}.weight": (additive, config.depth) for name in ("W_q", "W_k")}
        shapes |= {"attention.w_v.weight": (1, additive)}
    return shapes


def _weights(case: Case, random: np.random.Generator) -> dict[str, Array]:
    weights = {
        name: random.normal(scale=case.gain / np.sqrt(shape[-1]), size=shape)
        for name, shape in canonical_shapes(case.config, case.additive).items()
    }
    if case.config.bias:
        weights["W_q.bias"] += case.score_bias
        weights["W_k.bias"] -= case.score_bias
    return weights


def _arrays(case: Case, random: np.random.Generator) -> tuple[Array, Array, Array]:
    config, batch = case.config, case.batch
    shapes = [(batch, case.queries, config.query_size)]
    if not case.self_attention:
        shapes += [(batch, case.keys, config.key_size), (batch, case.keys, config.value_size)]
    arrays = [random.normal(case.mean, case.spread, size=shape) for shape in shapes]
    queries, keys, values = arrays if len(arrays) == 3 else arrays * 3
    return queries, keys, values


def _trained(case: Case) -> tuple[dict[str, Array], tuple[Array, Array, Array]]:
    weights = read_arrays(GOLDENS / f"{case.trained}.safetensors")
    images = read_arrays(GOLDENS / f"{case.trained}_held_out.safetensors")["images"][: case.batch]
    rows = as_rows(images)
    return weights, (rows, rows, rows)


def as_rows(images: Array) -> Array:
    """Images (batch, 8, 8) of 0 to 16 as sequences (batch, 8, 16): pixels of 0 to 1, then the row's place, one-hot."""
    places = np.broadcast_to(np.eye(8), (len(images), 8, 8))
    return np.concatenate([images / 16, places], axis=-1)
