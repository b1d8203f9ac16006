"""Faults of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change, rounded_to
from shared_tests.faults.fault import Fault
from shared_tests.harness.rounding import Array

PROJECTIONS = ("W_q", "W_k", "W_v", "W_o")
Parameters = dict[str, Array]


def _edited(edit: Callable[[Parameters], Mapping[str, Array]]) -> dict[str, Change]:
    """Some parameters are taken to be others."""

    def change(right: Change, layer: Any, given: Parameters) -> Parameters:
        parameters = right(given)
        return parameters | dict(edit(parameters))

    return {"parameters": change}


def _transposed(name: str) -> dict[str, Change]:
    return _edited(lambda p: {f"{name}.weight": p[f"{name}.weight"].T})


def _swapped(left: str, right: str) -> dict[str, Change]:
    names = {left: right, right: left}

    def other(name: str) -> str:
        projection, _, what = name.partition(".")
        return f"{names.get(projection, projection)}.{what}"

    return _edited(lambda p: {other(name): array for name, array in p.items()})


def _without(*names: str) -> dict[str, Change]:
    return _edited(lambda p: {f"{n}.bias": np.zeros_like(p[f"{n}.bias"]) for n in names if f"{n}.bias" in p})


def _rounded(form: str) -> dict[str, Change]:
    return _edited(lambda p: {name: rounded_to(array, form) for name, array in p.items()})


def _with_queries(right: Change, layer: Any, x: Array) -> Array:
    output = right(x)
    if layer.inputs["queries"].shape != output.shape:
        raise ValueError("a residual needs queries as wide as the output")
    return layer.arithmetic.stored(output + layer.inputs["queries"])


PARAMETERS = [
    *(
        Fault(
            f"{n}-transposed", "parameters", f"{n} is used as (in, out), not (out, in)", _transposed(n), case="causal"
        )
        for n in PROJECTIONS
    ),
    Fault(
        "W_q-W_k-swapped",
        "parameters",
        "queries are projected with W_k and keys with W_q",
        _swapped("W_q", "W_k"),
        case="causal",
    ),
    Fault(
        "W_k-W_v-swapped",
        "parameters",
        "keys are projected with W_v and values with W_k",
        _swapped("W_k", "W_v"),
        case="causal",
    ),
    Fault(
        "keys-values-swapped",
        "parameters",
        "keys and values are taken for each other",
        {"inputs": lambda right, layer, q, k, v: right(q, v, k)},
        case="book",
    ),
    *(
        Fault(
            f"{n}-bias-missing",
            "parameters",
            f"the bias of {n} is not added",
            _without(n),
            case="bias",
            shown_by="stages" if n == "W_k" else "outputs",  # it adds the same to all scores of a query
        )
        for n in PROJECTIONS
    ),
    Fault(
        "output-projection-missing",
        "parameters",
        "the joined heads are the output, without W_o",
        {"output": lambda right, layer, x: x},
    ),
    Fault(
        "residual-added", "parameters", "the queries are added to the output", {"output": _with_queries}, case="causal"
    ),
    *(
        Fault(f"parameters-{form}", "parameters", f"the parameters are rounded to {form}", _rounded(form))
        for form in ("float32", "float16", "bfloat16")
    ),
]
