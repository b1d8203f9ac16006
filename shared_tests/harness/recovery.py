"""Attention weights told from outputs alone, for a port that gives none.

A parameter is what its user gives, so W_v and W_o may be chosen: then the output shows the attention weights. With
W_o = I and projected values that are one-hot, element (query, head * head_dim + j) of the output is the attention
weight of key j in that head. Where values are an input of their own they are chosen too, and nothing is lost: of each
sum one term is an attention weight times 1, and all others are 0, so the output holds the attention weights bit for
bit. Where queries, keys and values are one array, W_v is made from the pseudo-inverse of that array, which is only
nearly one-hot: there the trial is one like any other, and the oracle says what its output is, and how exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Config, Trial
from shared_tests.harness.asking import ask
from shared_tests.harness.rounding import Array, to_format

LARGEST = 5
"""Batches beyond this, and the trained layer, are not asked entry by entry, which takes a model for each."""


def shows(config: Config) -> bool:
    """Whether an identity W_o can show every head."""
    return config.num_heads * config.head_dim == config.num_hiddens


def recovered(subject: Any, trial: Trial) -> Array | None:
    """(batch, heads, queries, keys): a subject's attention weights, bit for bit; None if outputs cannot show them."""
    (batch, queries, _), num_keys = trial.queries.shape, trial.keys.shape[1]
    heads, depth = trial.config.num_heads, trial.config.head_dim
    at_once = min(depth, trial.config.value_size)
    if subject.inputs == "self" or trial.keep is not None or not shows(trial.config):
        return None
    one_hot = np.zeros((depth, trial.config.value_size))
    one_hot[range(at_once), range(at_once)] = 1
    asked = showing(deepcopy(trial), one_hot)
    model = subject.build(asked.config, asked.parameters, asked.dtype)
    weights = []
    for first in range(0, num_keys, at_once):
        values = np.zeros_like(trial.values)
        shown = range(min(at_once, num_keys - first))
        values[:, [first + j for j in shown], shown] = 1
        output = ask(subject, model, replace(deepcopy(asked), values=values)).output
        if output.shape != (batch, queries, heads * depth):
            return None
        weights.append(output.reshape(batch, queries, heads, depth)[..., shown].swapaxes(1, 2))
    return np.concatenate(weights, axis=-1)


def one_by_one(trial: Trial) -> Iterator[Trial]:
    """Trials of one entry each, queries, keys and values one array, whose outputs are nearly attention weights."""
    batch, length, width = trial.keys.shape
    trained = trial.case is not None and (trial.case.trained or trial.case.installed)
    if trained or trial.keep is not None or batch > LARGEST or length > width or not shows(trial.config):
        return
    depth = trial.config.head_dim
    for entry in range(batch):
        inverse = np.linalg.pinv(trial.keys[entry].astype(np.float64))  # (width, length)
        for first in range(0, length, depth):
            rows = np.zeros((depth, width))
            rows[: min(depth, length - first)] = inverse.T[first : first + depth]
            yield replace(
                showing(_entry(trial, entry), rows), name=f"{trial.name}, entry {entry}, keys from {first}", case=None
            )


def showing(trial: Trial, one_hot: Array) -> Trial:
    """The trial with W_v = `one_hot`, (head_dim, value_size), in every head, W_o = I, and no biases in the two."""
    parameters = dict(trial.parameters)
    parameters["W_v.weight"] = to_format(np.tile(one_hot, (trial.config.num_heads, 1)), trial.dtype)
    parameters["W_o.weight"] = np.eye(trial.config.num_hiddens, dtype=parameters["W_o.weight"].dtype)
    for name in {"W_v.bias", "W_o.bias"} & parameters.keys():
        parameters[name] = np.zeros_like(parameters[name])
    return replace(trial, parameters=parameters)


def _entry(trial: Trial, entry: int) -> Trial:
    """The trial with one entry of the batch."""
    part = slice(entry, entry + 1)
    return replace(
        trial,
        queries=trial.queries[part],
        keys=trial.keys[part],
        values=trial.values[part],
        valid_lens=None if trial.valid_lens is None else trial.valid_lens[part],
        cotangent=trial.cotangent[part],
    )
