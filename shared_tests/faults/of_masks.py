"""Faults of the mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change
from shared_tests.faults.fault import Fault
from shared_tests.harness.rounding import Array, to_format


def lengths(edit: Any) -> dict[str, Change]:
    """The valid lengths, (batch, queries), are taken to be others."""
    return {"lengths": lambda right, layer, lengths: edit(right(lengths))}


def _causal(from_end: bool) -> dict[str, Change]:
    def change(right: Change, layer: Any, valid_lens: Array | None, shape: tuple[int, ...]) -> Array:
        queries, keys = shape[2:]
        return right(valid_lens, shape) & np.tri(queries, keys, keys - queries if from_end else 0, dtype=bool)

    return {"attended": change}


def _after_softmax(renormalised: bool) -> dict[str, Change]:
    def change(right: Change, layer: Any, scores: Array) -> Array:
        stored = layer.arithmetic.stored
        weights = stored(right(scores) * layer.attended)
        with np.errstate(invalid="ignore"):
            return stored(weights / layer.arithmetic.sum(weights)) if renormalised else weights

    return {"masked": lambda right, layer, scores, attended: scores, "softmax": change}


def _added(of_masked: float, of_attended: float = 0.0) -> dict[str, Change]:
    """A number is added to each score, and the sum rounded, which takes the score's own last digits away."""

    def change(right: Change, layer: Any, scores: Array, attended: Array) -> Array:
        number = layer.arithmetic.constant
        total = scores + np.where(attended, number(of_attended), number(of_masked))
        return to_format(total, layer.arithmetic.form).astype(scores.dtype)

    return {"masked": change}


def fill(number: float) -> dict[str, Change]:
    return {"fill": lambda right, layer: layer.arithmetic.constant(number)}


def _stale(right: Change, layer: Any, valid_lens: Array | None, shape: tuple[int, ...]) -> Array:
    return layer.memory.setdefault(("mask", shape), right(valid_lens, shape))


SHOWS_FILL = "equal scores far below -1e30"
TILED = "the mask is tiled over heads, not repeated"
MASKS = [
    Fault("mask-ignored", "mask", "no key is masked", {"masked": lambda right, layer, scores, attended: scores}),
    Fault(
        "mask-inverted",
        "mask",
        "the keys that count are masked, and the others attended to",
        {"masked": lambda right, layer, scores, attended: right(scores, ~attended)},
    ),
    Fault("mask-one-too-long", "mask", "one key more than the valid length is attended to", lengths(lambda n: n + 1)),
    Fault("mask-one-too-short", "mask", "one key less than the valid length is attended to", lengths(lambda n: n - 1)),
    Fault(
        "mask-first-query",
        "mask",
        "all queries have the valid lengths of the first",
        lengths(lambda n: np.broadcast_to(n[:, :1], n.shape)),
    ),
    Fault(
        "mask-next-entry",
        "mask",
        "each entry has the valid lengths of the next",
        lengths(lambda n: np.roll(n, -1, 0)),
    ),
    Fault(
        "mask-next-entry",
        "mask",
        "each entry has the valid lengths of the one before",
        lengths(lambda n: np.roll(n, 1, 0)),
        "the one before",
        case="batch of three",
    ),
    Fault(
        "mask-next-entry",
        "mask",
        "the entries of the batch have each other's valid lengths, in reverse",
        lengths(lambda n: n[::-1]),
        "in reverse",
    ),
    Fault(
        "mask-tiled-over-heads",
        "mask",
        TILED,
        {"per head": lambda right, layer, n: np.tile(n, (layer.config.num_heads, 1))},
    ),
    Fault("mask-causal-added", "mask", "keys after the query's own place are masked too", _causal(False), case="bias"),
    Fault(
        "mask-causal-added",
        "mask",
        "keys after the query's own place, counted from the end, are masked too",
        _causal(True),
        "from the end",
        case="bias",
    ),
    Fault("mask-after-softmax", "mask", "masked weights are set to 0 after the softmax", _after_softmax(False)),
    Fault(
        "mask-after-softmax",
        "mask",
        "masked weights are set to 0 after the softmax, and the rest divided by their sum",
        _after_softmax(True),
        "renormalised",
        case="all lengths zero",
    ),
    *(
        Fault(
            "mask-added",
            "mask",
            f"{number:g} is added to the masked scores, not put in their place",
            _added(number),
            f"{number:g}",
            case="zero lengths" if number > -1e18 else SHOWS_FILL,
        )
        for number in (-1.0, -100.0, -1e4, -1e6, -1e9, -1e12)
    ),
    Fault("mask-added", "mask", "1 is added to the scores of keys that count, and 0 to others", _added(0.0, 1.0), "1"),
    *(
        Fault(
            "fill-finite",
            "mask",
            f"the fill is {number:g}",
            fill(number),
            f"{number:g}",
            case=SHOWS_FILL,
            variant=number > -100,
        )
        for number in (0.0, 1e-9, -1.0, -10.0, -1e3, -1e4, -1e6, -1e9, -1e20, -1e30)
    ),
    Fault("mask-stale", "mask", "the mask of the first call is kept for the next", {"attended": _stale}, variant=False),
    Fault(
        "mask-lengths-wrapped",
        "mask",
        "a valid length beyond the keys starts again from 0",
        {"attended": lambda right, layer, n, s: right(None if n is None else n % (s[3] + 1), s)},
        case="lengths beyond the keys",
    ),
    Fault(
        "mask-negative-from-end",
        "mask",
        "a negative valid length counts from the end",
        {"attended": lambda right, layer, n, s: right(None if n is None else np.where(n < 0, s[3] + n, n), s)},
        case="zero and negative lengths per query",
    ),
]
