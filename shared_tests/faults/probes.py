"""What diagnosis asks: small trials, each drawn so that no two faults give the same answer to all of them.

Three entries, three heads of 6 columns (no power of 4, so that a rounded scale shows), 5 queries, 7 keys. Lengths are
2 to 6, so that a mask one too short or inverted leaves every row a key, and each entry, query and head has its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Config, Trial, draw
from shared_tests.harness.rounding import Array, to_format
from shared_tests.harness.scoring import Additive

WIDTHS = {
    "distinct widths": Config(11, 8, 13, 18, 3),
    "one width": Config(18, 18, 18, 18, 3),
    "one x": Config(18, 18, 18, 18, 3),
}
LENGTHS = {
    "none": None,
    "lengths": (4, 6, 2),
    "lengths per query": ((3, 6, 2, 5, 4), (6, 2, 4, 3, 5), (4, 5, 6, 2, 3)),
    "causal": ((1, 2, 3, 4, 5),) * 3,
}
ONE_X = {
    "lengths per query": ((3, 6, 2, 5, 4, 2, 6), (6, 2, 4, 3, 5, 6, 2), (4, 5, 6, 2, 3, 3, 5)),
    "causal": ((1, 2, 3, 4, 5, 6, 7),) * 3,
}
"""With as many queries as keys."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A trial and its name, which says what it is."""

    name: str
    trial: Trial
    isolates: bool = False
    """Whether most of what the layer does leaves no trace in it."""

    @property
    def rows(self) -> Array:
        """(batch, queries): whether the row has a key."""
        return self.trial.lengths > 0


@cache
def plain(dtype: str, widths: str, bias: bool, kind: str, spread: float = 1.0, additive: bool = False) -> Probe:
    """Random numbers, with this kind of valid lengths."""
    config = replace(WIDTHS[widths], bias=bias, scoring=Additive(10) if additive else WIDTHS[widths].scoring)
    one = widths == "one x"
    lengths = ONE_X.get(kind, LENGTHS[kind]) if one else LENGTHS[kind]
    case = Case(config, 3, 7 if one else 5, 7, lengths, spread, self_attention=one)
    name = f"{widths}, {'biases, ' if bias else ''}{'no lengths' if kind == 'none' else kind}"
    name += (", additive" if additive else "") + (f", inputs of {spread:g}" if spread != 1 else "")
    return Probe(f"{name}, {dtype}", draw(name, case, dtype))


@cache
def with_lengths(probe: Probe, name: str, *lengths: Any) -> Probe:
    """The same with other valid lengths."""
    return Probe(f"{probe.name}: {name}", replace(probe.trial, valid_lens=np.array(lengths)))


@cache
def without_a_head(probe: Probe) -> Probe:
    """The same layer without its second head: two heads, together not as wide as the output."""
    return Probe(f"{probe.name}: without a head", probe.trial.without_heads([1]))


def empty_rows(probe: Probe) -> Iterator[Probe]:
    """The same, with some and with all rows left without a key."""
    lengths = probe.trial.valid_lens
    assert lengths is not None
    if lengths.ndim == 1:
        yield with_lengths(probe, "an entry without a key", 0, 6, -4)
    else:
        some = lengths.copy()
        some[0, 1::2], some[1, 0], some[2, ::2] = 0, -5, 0
        yield with_lengths(probe, "rows without a key", *map(tuple, some.tolist()))
    yield (
        with_lengths(probe, "no row has a key", *map(tuple, np.zeros_like(lengths).reshape(3, -1).tolist()))
        if (lengths.ndim == 2)
        else with_lengths(probe, "no row has a key", 0, 0, 0)
    )


@cache
def isolating(dtype: str, bias: bool, what: str) -> Probe:
    """One x, 4 keys, heads of 4, in which all steps but some are free of rounding error, in float16 even.

    "softmax": scores are small multiples of 1/2, and values one-hot, so that the output is the attention weights.
    "values": all scores are 0, and attention weights 1/4. "weights": random scores, values one-hot.
    """
    config = Config(12, 12, 12, 12, 3, bias)
    base = draw(f"isolating {what}", Case(config, 3, 4, 4, (4, 4, 4), self_attention=True), dtype)
    random, parameters = np.random.default_rng(zlib.crc32(what.encode())), dict(base.parameters)
    x = base.queries.copy()
    if what != "weights":
        whole = what == "softmax"
        x[..., 4:] = random.integers(-1, 2, x[..., 4:].shape) if whole else x[..., 4:]
        for name in ("W_q.weight", "W_k.weight"):
            parameters[name] = random.integers(-1, 2, parameters[name].shape).astype(x.dtype) * whole
            parameters[name][:, :4] = 0
    parameters |= {n: np.zeros_like(a) for n, a in parameters.items() if n.endswith("bias")}
    if what != "values":
        x[..., :4] = np.eye(4)
        parameters["W_v.weight"] = np.tile(np.eye(4, 12), (3, 1)).astype(x.dtype)
        parameters["W_o.weight"] = np.eye(12, dtype=x.dtype)
    trial = replace(base, parameters=parameters, queries=x, keys=x, values=x, valid_lens=None)
    return Probe(f"{what} alone, {dtype}", trial, isolates=True)


def equal_scores(probe: Probe, score: float) -> Trial:
    """The same with every score the same number, and attention weights in the output.

    One column of each input is 1, and of W_q and W_k a number. The value of key j is one-hot, so that output column j
    is its weight, in the head whose column of W_o that is.
    """
    trial, head_dim = probe.trial, probe.trial.config.head_dim
    parameters = {name: array.copy() for name, array in trial.parameters.items()}
    root = np.sqrt(abs(score) / np.sqrt(head_dim))
    for name, number in (("W_q", root), ("W_k", np.copysign(root, score))):
        parameters[f"{name}.weight"] = np.zeros_like(parameters[f"{name}.weight"])
        parameters[f"{name}.weight"][:, 0] = number
        if f"{name}.bias" in parameters:
            parameters[f"{name}.bias"] = np.zeros_like(parameters[f"{name}.bias"])
    arrays = {x: getattr(trial, x).copy() for x in ("queries", "keys", "values")}
    for x in arrays.values():
        x[..., 0] = 1
    keys, width = trial.keys.shape[1], trial.config.value_size
    arrays["values"][..., 1 : keys + 1] = np.eye(keys)
    if np.shares_memory(trial.queries, trial.values):
        arrays = dict.fromkeys(arrays, arrays["values"])
    parameters["W_v.weight"] = np.eye(len(parameters["W_v.weight"]), width, 1)
    parameters["W_o.weight"] = np.eye(*parameters["W_o.weight"].shape)
    parameters |= {n: np.zeros_like(a) for n, a in parameters.items() if n in ("W_v.bias", "W_o.bias")}
    parameters = {name: to_format(array, trial.dtype) for name, array in parameters.items()}
    return replace(trial, parameters=parameters, **arrays)
