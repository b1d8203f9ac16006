"""The fill of masked scores, measured: equal scores are lowered until masked keys have weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from shared_tests.faults.fault import Fault
from shared_tests.faults.of_masks import fill
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe, equal_scores
from shared_tests.faults.variants import Faults, truth
from shared_tests.harness.rounding import Array

LEVELS = (1.0, 1e2, 1e3, 1e5, 1e7, 1e10, 1e15, 1e20, 1e25, 1e32, 2.0**110 * 2)
"""Negative scores, down to about what the contract's own case asks, "equal scores far below -1e30"."""
USUAL = (1e4, 1e6, 1e9, 1e10, 1e5, 1e7, 1e8, 1e12, 1e15, 1e18, 1e20, 1e30)
"""Fills that people write."""


@cache
def at(probe: Probe, level: float) -> Probe:
    """The probe with every score at -level, and values that show attention weights in the output."""
    return Probe(f"{probe.name}: every score {-level:.3g}", equal_scores(probe, -level))


def measured(port: Port, probe: Probe, found: Faults) -> tuple[Fault | None, float | None]:
    """What of the fill shows, if anything, and the score down to which masking holds, if not to the last.

    found: the faults that are known, which may do the same.
    """
    holds = 0.0
    for level in LEVELS:
        weights = weights_at(port, probe, level)
        if weights is None or np.isnan(weights).any() or (level == 1.0 and masked_share(weights, probe)):
            return None, None  # no matter of the fill
        if masked_share(weights, probe) > 0:
            expected = truth(at(probe, level), found)["attention_weights"].reshape(-1, len(weights))[0]
            if masked_share(expected, probe) > 0:
                return None, None
            return _named(port, probe, holds, level)
        holds = level
    return None, None


def weights_at(port: Port, probe: Probe, level: float) -> Array | None:
    """The attention weights (keys,) of the first query in the first head: as returned, or read off the output."""
    answer = port.ask(at(probe, level))
    if answer is None:
        return None
    if "attention_weights" in answer:
        weights = answer["attention_weights"]
        return weights.reshape(-1, weights.shape[-1])[0] if weights.size else None
    return answer["output"][0, 0, : probe.trial.keys.shape[1]]


def masked_share(weights: Array, probe: Probe) -> float:
    """The weight of all masked keys; 1 for what is no number."""
    return float(np.nan_to_num(np.abs(weights[probe.trial.lengths[0, 0] :]).sum(), nan=1.0))


def _named(port: Port, probe: Probe, holds: float, fails: float) -> tuple[Fault | None, float | None]:
    """The fault, told by the weights at the level at which masking fails: masked keys win, or are as good as others."""
    weights = weights_at(port, probe, fails * 10)
    if weights is not None and np.ptp(weights) == 0:
        words = "a finite number is added to the masked scores, not put in their place"
        return Fault("mask-added", "mask", words, {}), -holds
    number = _search(lambda level: weights_at(port, probe, level), probe, holds, fails)
    if number is None:
        return None, -holds
    words = f"the fill is {number:g}, and scores below it lose to masked ones"
    return Fault("fill-finite", "mask", words, fill(number), f"{number:g}"), number


def _search(ask: Callable[[float], Array | None], probe: Probe, holds: float, fails: float) -> float | None:
    """The fill between two levels: among those that people write, or by bisection."""
    for guess in USUAL:
        if holds <= guess <= fails and (found := _distance(ask(guess), probe)) is not None:
            return float(f"{found - guess:.6g}")
    for _ in range(80):
        level = float(np.sqrt(max(holds, 1.0) * fails))
        weights = ask(level)
        if (found := _distance(weights, probe)) is not None:
            return float(f"{found - level:.6g}")
        if weights is None:
            return None
        holds, fails = (holds, level) if masked_share(weights, probe) > 0.5 else (level, fails)
    return None


def _distance(weights: Array | None, probe: Probe) -> float | None:
    """How far the fill lies above the scores, if masked and other keys both have weight."""
    if weights is None:
        return None
    masked, other = float(weights[-1]), float(weights[probe.trial.lengths[0, 0] - 1])
    return float(np.log(masked / other)) if min(masked, other) > 1e-30 else None
