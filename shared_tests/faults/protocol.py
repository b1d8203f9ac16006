"""What is found not by numbers alone but by how a port is called: again, after another call, beside another model."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.faults.fit import fit
from shared_tests.faults.port import Port, as_arrays, same
from shared_tests.faults.probes import Probe
from shared_tests.faults.variants import Arrays, Faults, truth
from shared_tests.harness.calling import halved, other_forms
from shared_tests.harness.errors import in_words
from shared_tests.harness.subject import offers

Found = tuple[str, str]
"""A fault's id, and what was seen."""


def called_again(port: Port, probe: Probe, showing: Probe | None) -> Iterator[Found]:
    """The same model, the same inputs: the same bits, and nothing given is written to.

    showing: a probe whose output is made of attention weights, so that one sees what dropout does to them.
    """
    arrays = {x: getattr(probe.trial, x).copy() for x in ("queries", "keys", "values")}  # one each, so as to name it
    trial = replace(deepcopy(probe.trial), **arrays)
    model = port.subject.build(trial.config, trial.parameters, trial.dtype)
    first = as_arrays(port.raw(model, *trial.inputs))
    written = [
        x for x in ("queries", "keys", "values", "valid_lens") if _differs(getattr(trial, x), getattr(probe.trial, x))
    ]
    if written:
        yield "input-overwritten", f"{', '.join(written)} are written to"
    again = port.call(model, probe.trial)
    changed = [n for n, array in trial.parameters.items() if _differs(array, probe.trial.parameters[n])]
    if changed:
        yield "parameters-overwritten", f"{', '.join(changed)}, as given to build, are written to"
    elif not same(first, again):
        yield from _unsteady(port, showing, first, again)


def _unsteady(port: Port, showing: Probe | None, first: Arrays, again: Arrays) -> Iterator[Found]:
    """Another answer to the same call: of dropout, or of something else."""
    name = next(name for name in first if not np.array_equal(first[name], again[name], equal_nan=True))
    place = tuple(int(i) for i in np.argwhere(first[name] != again[name])[0])
    words = f"the same call gives {name}{list(place)} = {first[name][place]:.9g}, then {again[name][place]:.9g}"
    ratio = showing and _kept(port, showing)
    if ratio is not None:
        yield "dropout-in-evaluation", f"{words}: attention weights are 0 or {ratio:.4g} times what they should be"
    else:
        yield "not-repeatable", words


def _kept(port: Port, probe: Probe) -> float | None:
    """The factor of what dropout keeps, if each attention weight that the output shows is right times that, or 0."""
    answer, right = port.ask(probe), truth(probe)
    if answer is None or "attention_weights" not in right:
        return None
    config = probe.trial.config
    shown = answer["output"].reshape(*answer["output"].shape[:2], config.num_heads, -1).swapaxes(1, 2)
    if shown.shape != right["attention_weights"].shape:
        return None
    ratios = (shown / right["attention_weights"]).astype(np.float64).ravel()
    kept = ratios[ratios != 0]
    dropped = 0 < len(kept) < len(ratios) and np.ptp(kept) <= 1e-3 * kept[0]
    return float(np.median(kept)) if dropped and kept[0] > 1 else None


def kept_between_calls(port: Port, probe: Probe, base: Faults) -> Iterator[Found]:
    """Another call of the same model, with other arrays, and other lengths if it takes any."""
    trial, other = probe.trial, _other(probe.trial)
    model = port.build(trial)
    raw = port.raw(model, *deepcopy(trial.inputs))
    held = np.asarray(raw[0] if isinstance(raw, (tuple, list)) else raw)
    before, second = held.copy(), port.call(model, other)
    if _differs(held, before):
        yield "output-buffer-reused", "the array that the first call returned is changed by the next call"
    fresh = port.call(port.build(other), other)
    stale = Probe(f"{probe.name}, stale", replace(other, valid_lens=trial.valid_lens))
    if trial.valid_lens is not None and not same(second, fresh) and fit(base, stale, second):
        yield "mask-stale", "a model's second call is masked by the lengths of its first"


def _other(trial: Trial) -> Trial:
    """The entries in reverse, with lengths that are none of theirs."""
    lengths = trial.valid_lens
    return replace(trial.reversed(), valid_lens=None if lengths is None else np.roll(lengths, 1, axis=0))


def beside_another_model(port: Port, probe: Probe) -> Iterator[Found]:
    """A model answers as it did before another one was built and asked."""
    trial = probe.trial
    model = port.build(trial)
    before = port.call(model, trial)
    other = replace(trial, parameters=halved(trial))
    port.call(port.build(other), trial)
    if not same(before, port.call(model, trial)) and same(before, port.call(port.build(trial), trial)):
        yield "parameters-shared-between-models", "a model answers otherwise once another one is built"


def other_arrays(port: Port, probe: Probe, base: Faults) -> Iterator[Found]:
    """Lengths of int32, and inputs whose elements are not next to each other in memory."""
    trial = deepcopy(probe.trial)
    for what, changed in other_forms(trial).items():
        try:
            answer = as_arrays(port.raw(port.build(trial), *changed.inputs))  # not copied: copies have no strides
        except (Exception, SystemExit) as error:
            yield "crash", f"{what}: {in_words(error)}"
            continue
        if not fit(base, probe, answer):
            yield "crash", f"{what} are answered wrongly"


def empties(port: Port, probe: Probe) -> Iterator[Found]:
    """An empty batch, and no queries."""
    trial, lengths = probe.trial, probe.trial.valid_lens
    none = {x: getattr(trial, x)[:0] for x in ("queries", "keys", "values")}
    cases = {"an empty batch": replace(trial, **none, valid_lens=None if lengths is None else lengths[:0])}
    if not np.array_equal(trial.queries, trial.keys):
        lengths = lengths[:, :0] if lengths is not None and lengths.ndim == 2 else lengths
        cases["no queries"] = replace(trial, queries=trial.queries[:, :0], valid_lens=lengths)
    for what, empty in cases.items():
        try:
            shape = port.call(port.build(empty), empty)["output"].shape
            expected = (*empty.queries.shape[:2], trial.config.num_hiddens)
            problem = "" if shape == expected else f"expected an output of shape {expected}, got {shape}"
        except (Exception, SystemExit) as error:
            problem = in_words(error)
        if problem:
            yield "empty-refused", f"{what}: {problem}"


def after_dropout(port: Port, probe: Probe) -> Iterator[Found]:
    """In training, with a mask given to dropout, the attention weights that are returned are those before it."""
    if not offers(port.subject, "with_mask"):
        return
    shape = truth(probe)["attention_weights"].shape
    keep = (np.random.default_rng(0).random(shape) >= 0.5) * np.dtype(probe.trial.queries.dtype).type(2)
    answer = port.call(port.subject.with_mask(port.build(probe.trial), keep), probe.trial)
    given, weights = answer.get("attention_weights"), truth(probe)["attention_weights"]
    if given is not None and given.shape == weights.shape and fit((), probe, {"attention_weights": given}) is None:
        after = {"attention_weights": given / np.where(keep > 0, keep, 1)}
        masked = {"attention_weights": np.where(keep > 0, after["attention_weights"], weights.astype(given.dtype))}
        if not given[keep == 0].any() and fit((), probe, masked):
            yield "attention-weights-after-dropout", "in training, attention weights are returned after dropout"


def _differs(left: Any, right: Any) -> bool:
    return left is not None and not np.array_equal(left, right, equal_nan=True)
