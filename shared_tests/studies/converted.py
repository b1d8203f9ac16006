"""A converted layer beside the oracle: the layer that a layout is for, loaded with the arrays, and run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Config, Trial
from shared_tests.harness import oracle
from shared_tests.harness.compare import Verdict, within_gate
from shared_tests.harness.find import missing
from shared_tests.harness.rounding import Array
from shared_tests.layouts.canonical import sizes
from shared_tests.layouts.layout import ADDITIVE, Layout
from shared_tests.tensors import widened

DTYPE = "float32"
"""In which layers run: some take their softmax in it whatever they are given."""


def layer_of(layout: Layout) -> Any:
    """The layer that the layout is for. Raises ImportError, in one line, if its library is not here."""
    module, _, name = layout.layer.partition(":")
    try:
        return getattr(importlib.import_module(f"shared_tests.subjects._layers_{module}"), name)()
    except ModuleNotFoundError as error:
        raise missing(layout.name, error) from error


def config_of(weights: Mapping[str, Array], num_heads: int) -> Config:
    """The sizes of a layer with these canonical weights."""
    found = sizes(weights)
    return Config(
        found.key_size,
        found.query_size,
        found.value_size,
        found.num_hiddens,
        num_heads,
        bias="W_q.bias" in weights,
        head_dim=found.width // num_heads,
    )


def trial_of(
    weights: Mapping[str, Array], config: Config, inputs: tuple[Array, Array, Array], causal: bool, scaled: bool
) -> Trial:
    """What the oracle is asked. A layer that does not divide its scores has W_q times what ours will divide by.

    For a layer without W_o it is the identity here: its output is the oracle's concatenation.
    """
    parameters = {name: widened(array).astype(DTYPE) for name, array in weights.items()}
    parameters.setdefault("W_o.weight", np.eye(len(weights["W_q.weight"]), dtype=DTYPE))
    if not scaled:
        factor = np.float32(np.sqrt(config.head_dim))
        parameters |= {name: array * factor for name, array in parameters.items() if name.startswith("W_q")}
    queries, keys, values = inputs
    batch, length = queries.shape[:2]
    lengths = np.broadcast_to(np.arange(1, length + 1), (batch, length)) if causal else None
    cotangent = np.zeros((batch, length, config.num_hiddens))
    return Trial("converted", config, DTYPE, parameters, queries, keys, values, lengths, cotangent)


def judge_output(output: Array, trial: Trial, stage: str = "output") -> Verdict:
    """The output that a layer gave, beside a stage of the oracle's, in sigma."""
    return within_gate(output, oracle.forward(trial)[stage])


def draw_inputs(config: Config, others: Any) -> tuple[Array, Array, Array]:
    """Inputs of the kinds that the layer takes."""
    random = np.random.default_rng(0)
    lengths, widths = (4, 5, 5), (config.query_size, config.key_size, config.value_size)
    queries, keys, values = (
        random.normal(size=(2, length, width)).astype(DTYPE) for length, width in zip(lengths, widths, strict=True)
    )
    if others.self_attention:
        return queries, queries, queries
    return (queries, keys, keys) if others.keys_are_values else (queries, keys, values)


def check(layout: Layout, arrays: Mapping[str, Array], weights: Mapping[str, Array], num_heads: int | None) -> Verdict:
    """Loads the arrays into the layout's own layer, runs it and compares its output with the oracle's.

    The verdict's `what` is what was switched off in the layer, since our function has not got it.

    Raises ImportError, in one line, where there is no such layer; ValueError if the layer does not take the arrays.
    """
    if num_heads is None:
        raise ValueError("heads: expected their number (--num-heads), got none, and --check needs it")
    if additive := [name for name in ADDITIVE if name in weights]:
        raise ImportError(f"no layer with {additive[0]} is known")
    if layout.output and "W_o.weight" not in weights:
        raise ImportError("W_o is missing")
    others, config = layer_of(layout), config_of(weights, num_heads)
    given = {name: np.array(widened(array), DTYPE) for name, array in arrays.items()}
    try:
        layer = others.load(others.build(config), given)
        inputs = draw_inputs(config, others)
        output = others.forward(layer, *inputs)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--check: expected a layer of {layout.name} to take the arrays, got {words}") from error
    trial = trial_of(weights, config, inputs, others.causal, others.scaled)
    verdict = judge_output(output, trial, "output" if layout.output else "concatenation")
    return replace(verdict, what=others.without)
