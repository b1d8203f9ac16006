"""Variants of the reference: the layer with one or two faults, free of error, and the noise of a port that has them.

The right layer is the oracle, with the judge's own sigma. A variant is the catalogue's layer computed free of error,
and its sigma is sampled: runs in which every operation errs at random by what docs/rounding.md says of it, and
sigma is their root mean square distance from the value. So a variant whose scores are larger, or whose softmax is
float32, has the noise of a port that does just that, from the same one-line change; nothing is scaled by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Exact
from shared_tests.faults.backward import gradients
from shared_tests.faults.fault import Fault
from shared_tests.faults.layer import Layer
from shared_tests.faults.probes import Probe
from shared_tests.harness import oracle
from shared_tests.harness.rounding import Array

GRADIENT = "gradient of "
"""Begins the names of gradients among answers."""
Faults = tuple[Fault, ...]
Arrays = dict[str, Array]


def runs(faults: Faults, probe: Probe) -> bool:
    """Whether the variant can be asked this at all: some faults fit no widths but equal ones."""
    return variant(faults, probe, False) is not None


def truth(probe: Probe, faults: Faults = ()) -> Arrays:
    """What the layer with these faults owes, by "output" and "attention_weights" and every other stage."""
    value = variant(faults, probe, False)
    assert value is not None
    return value


def gradients_of(probe: Probe, faults: Faults = ()) -> Arrays:
    """The gradients that the layer with these faults owes, each by `GRADIENT` and its name."""
    value = variant(faults, probe, True)
    assert value is not None
    return value


def of_gradients(names: Iterable[str]) -> bool:
    """Whether these are names of gradients, not of stages."""
    return next(iter(names), "").startswith(GRADIENT)


@lru_cache(1024)
def _exact(probe: Probe) -> tuple[Arrays, Arrays]:
    stages = oracle.forward(probe.trial)
    return {n: x.value for n, x in stages.items()}, {n: x.sigma for n, x in stages.items()}


@lru_cache(256)
def _exact_gradients(probe: Probe) -> tuple[Arrays, Arrays]:
    found = oracle.backward(probe.trial, oracle.forward(probe.trial))
    return {GRADIENT + n: x.value for n, x in found.items()}, {GRADIENT + n: x.sigma for n, x in found.items()}


@lru_cache(16384)
def quick(faults: Faults, probe: Probe, names: tuple[str, ...]) -> Arrays | None:
    """What of the variant has these names, in float64."""
    with np.errstate(all="ignore"):
        try:
            found = _run(faults, probe, of_gradients(names), number=np.float64)
        except (ValueError, IndexError):  # shapes that do not fit
            return None
    return {name: found[name] for name in names if name in found}


def _run(
    faults: Faults,
    probe: Probe,
    gradient: bool,
    random: np.random.Generator | None = None,
    number: type[np.floating[Any]] = np.longdouble,
) -> Arrays:
    trial = probe.trial
    arithmetic = Exact(trial.dtype, random, number)
    layer = Layer(trial.config, trial.parameters, arithmetic, [fault.changes for fault in faults])
    layer.keep = trial.keep
    output, weights = layer.forward(*trial.inputs)
    if gradient:
        return {GRADIENT + name: array for name, array in gradients(layer, trial.cotangent).items()}
    return layer.stages | {"output": output, "attention_weights": weights}


@lru_cache(1024)
def variant(faults: Faults, probe: Probe, gradient: bool) -> Arrays | None:
    """What the layer with these faults owes: gradients, or else every stage; None where their shapes do not fit."""
    if not faults:
        return (_exact_gradients if gradient else _exact)(probe)[0]
    with np.errstate(all="ignore"):
        try:
            return _run(faults, probe, gradient)
        except (ValueError, IndexError):  # shapes that do not fit
            return None


@lru_cache(2048)
def noise_of(faults: Faults, probe: Probe, gradient: bool, draws: int) -> Arrays:
    """The sigma of each element, of so many draws; of the right layer the judge's own."""
    if not faults:
        return (_exact_gradients if gradient else _exact)(probe)[1]
    value, random = variant(faults, probe, gradient), np.random.default_rng(0)
    assert value is not None
    squares = {name: np.zeros(array.shape) for name, array in value.items()}
    with np.errstate(all="ignore"):
        for _ in range(draws):
            draw = _run(faults, probe, gradient, random)
            for name, array in value.items():
                squares[name] += np.nan_to_num((draw[name] - array) ** 2, posinf=np.inf).astype(np.float64)
    return {name: np.sqrt(array / draws) for name, array in squares.items()}
