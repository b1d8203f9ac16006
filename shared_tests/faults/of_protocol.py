"""Faults of how a port is called and what it keeps, and of its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change
from shared_tests.faults.fault import BY_WEIGHTS, Fault
from shared_tests.faults.of_precision import OF_GRADIENTS
from shared_tests.harness.rounding import Array

Call = dict[str, Change]
"""A change of the whole call: change(right, layer, queries, keys, values, valid_lens)."""
DROPPED = 0.25


def _afterwards(what: Any) -> Call:
    """The answer is right, but then something is done."""

    def change(right: Change, layer: Any, *inputs: Any) -> Any:
        answer = right(*inputs)
        what(layer, *inputs)
        return answer

    return {"call": change}


def _before(what: Any) -> Call:
    """The call is refused, or not, before anything is computed."""

    def change(right: Change, layer: Any, *inputs: Any) -> Any:
        what(layer, *inputs)
        return right(*inputs)

    return {"call": change}


def _doubled(which: int) -> Any:
    def write(layer: Any, *inputs: Any) -> None:
        if inputs[which] is not None:
            inputs[which][...] = inputs[which] * 2

    return write


def _scale_parameters(layer: Any, *inputs: Any) -> None:
    layer.given["W_q.weight"] *= layer.given["W_q.weight"].dtype.type(1.001)


def _another(right: Change, layer: Any, *inputs: Any) -> Any:
    output, weights = right(*inputs)
    layer.memory["odd"] = not layer.memory.get("odd", True)
    return output * output.dtype.type(1 + 1e-3 * layer.memory["odd"]), weights


def _one_buffer(right: Change, layer: Any, *inputs: Any) -> Any:
    output, weights = right(*inputs)
    buffer = layer.memory.setdefault((output.shape, output.dtype), np.empty_like(output))
    buffer[...] = output
    return buffer, weights


def _one_for_all(right: Change, layer: Any, given: dict[str, Array]) -> Any:
    """All models of one subject see the parameters that were given last."""
    layer.shared["parameters"] = given if layer.memory.setdefault("first", True) else layer.shared["parameters"]
    layer.memory["first"] = False
    return right(layer.shared["parameters"])


def _drop(right: Change, layer: Any, weights: Array, values: Array) -> Array:
    random = layer.memory.setdefault("random", np.random.default_rng(0))
    keep = (random.random(weights.shape) >= DROPPED) / (1 - DROPPED)
    return right(weights * keep.astype(weights.dtype), values)


def _drop_returned(right: Change, layer: Any, scores: Array) -> Array:
    weights = right(scores)
    random = layer.memory.setdefault("random", np.random.default_rng(0))
    return weights * ((random.random(weights.shape) >= DROPPED) / (1 - DROPPED)).astype(weights.dtype)


def _after_dropout(right: Change, layer: Any, output: Array, weights: Array) -> Any:
    return right(output, weights if layer.keep is None else weights * layer.keep)


def _refuse_empty(layer: Any, queries: Array, *rest: Any) -> None:
    queries[0, 0]


def _refuse_empty_batch(layer: Any, queries: Array, *rest: Any) -> None:
    queries[0]


def _refuse_different(layer: Any, queries: Array, keys: Array, *rest: Any) -> None:
    if queries.shape != keys.shape or (queries != keys).any():
        raise ValueError("expected one x")


def _refuse_widths(layer: Any, *inputs: Any) -> None:
    config = layer.config
    if len({config.query_size, config.key_size, config.value_size, config.num_hiddens}) > 1:
        raise ValueError("expected one width")


def _crash(layer: Any, *inputs: Any) -> None:
    raise NotImplementedError("not written yet")


def _exit(layer: Any, *inputs: Any) -> None:
    raise SystemExit(0)


def _refuse_int32(layer: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None) -> None:
    if valid_lens is not None and valid_lens.dtype != np.int64:
        raise TypeError("expected lengths of int64")


def _without_strides(right: Change, layer: Any, *inputs: Any) -> Any:
    """As native code does that takes the first address and the shape alone."""
    *arrays, valid_lens = inputs
    read = (np.lib.stride_tricks.as_strided(x, strides=np.empty(x.shape, x.dtype).strides).copy() for x in arrays)
    return right(*read, valid_lens)


def _one_nan(right: Change, layer: Any, *inputs: Any) -> Any:
    output, weights = right(*inputs)
    return np.where(output == output.max(initial=0), np.nan, output).astype(output.dtype), weights


def _entry(id_: str, words: str, changes: Call, form: str = "", case: str = "bias, lengths per query") -> Fault:
    shown_by = BY_WEIGHTS if id_.startswith("attention-weights") else "outputs"
    return Fault(id_, "protocol", words, changes, form, 0.0, case, False, shown_by)


def _in_float64(right: Change, layer: Any, output: Array, weights: Array) -> Any:
    return right(output.astype(np.float64), weights)


def _only_output(right: Change, layer: Any, *inputs: Any) -> Any:
    return right(*inputs)[0]


PROTOCOL = [
    _entry("dtype-promoted", "the output is float64, whatever the inputs are", {"returned": _in_float64}),
    *(
        _entry("input-overwritten", f"{name} are written to", _afterwards(_doubled(place)), name)
        for place, name in enumerate(("queries", "keys", "values", "valid_lens"))
    ),
    _entry("parameters-overwritten", "the parameters are written to", _afterwards(_scale_parameters)),
    _entry("not-repeatable", "the same call gives another answer", {"call": _another}),
    _entry("output-buffer-reused", "the array that was returned is written to by the next call", {"call": _one_buffer}),
    _entry(
        "parameters-shared-between-models", "a model takes the parameters of the next one", {"parameters": _one_for_all}
    ),
    _entry("attention-weights-missing", "no attention weights are returned", {"call": _only_output}),
    _entry(
        "attention-weights-missing",
        "None is returned for the attention weights",
        {"call": lambda right, layer, *inputs: (right(*inputs)[0], None)},
        "None",
    ),
    _entry(
        "attention-weights-after-dropout",
        "the attention weights that are returned are those after dropout",
        {"returned": _after_dropout},
        case="dropout",
    ),
    _entry("dropout-in-evaluation", "dropout is active in evaluation", {"average": _drop}),
    _entry("dropout-in-evaluation", "dropout is active in evaluation", {"softmax": _drop_returned}, "returned too"),
    _entry("empty-refused", "an empty batch is refused", _before(_refuse_empty_batch), "batch", "empty batch"),
    _entry("empty-refused", "no queries are refused", _before(_refuse_empty), "queries", "no queries"),
    _entry("one-input-only", "queries, keys and values must be one array", _before(_refuse_different)),
    _entry("square-only", "all widths must be one", _before(_refuse_widths)),
    _entry("crash", "every call comes to an error", _before(_crash)),
    _entry("crash", "every call exits", _before(_exit), "exit"),
    _entry("crash", "lengths of int32 are refused", _before(_refuse_int32), "int32"),
    _entry("crash", "inputs are read as if their elements were neighbours", {"call": _without_strides}, "strides"),
    _entry("one-nan", "the greatest output of every call is NaN", {"call": _one_nan}),
    Fault(
        "one-input-only",
        "protocol",
        "keys and values are ignored, and the queries taken for all three",
        {"inputs": lambda right, layer, q, k, v: right(q, q, q)},
        "ignores the others",
    ),
]


def _gradients(edit: Any) -> Call:
    return {"gradients": lambda right, layer, found: edit(layer, right(found))}


def _missing(layer: Any, found: dict[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in found.items() if name != "W_k.weight"}


def _negated(layer: Any, found: dict[str, Array]) -> dict[str, Array]:
    return {name: -array for name, array in found.items()}


def _averaged(layer: Any, found: dict[str, Array]) -> dict[str, Array]:
    rows = {
        f"{n}.bias": layer.inputs[x][..., 0].size for n, x in (("W_q", "queries"), ("W_k", "keys"), ("W_v", "values"))
    }
    rows["W_o.bias"] = rows.get("W_q.bias", 1)
    return {n: array / array.dtype.type(rows[n]) if n in rows else array for n, array in found.items()}


def _unmasked(right: Change, layer: Any) -> Array:
    return layer._softmax(layer.stages["scores"])


LEAK: dict[str, Change] = {"gradient weights": _unmasked, "slopes": lambda right, layer, slopes: slopes}
GRADIENTS = [
    Fault(
        "gradient-missing", "gradients", "the gradient of W_k.weight is missing", _gradients(_missing), variant=False
    ),
    Fault("gradient-of-masked-keys", "gradients", "the mask is left out of the gradients", LEAK),
    Fault("gradient-negated", "gradients", "the gradients have the other sign", _gradients(_negated)),
    Fault(
        "bias-gradient-averaged",
        "gradients",
        "the gradients of biases are means over batch and length, not sums",
        _gradients(_averaged),
    ),
    *OF_GRADIENTS,
]
