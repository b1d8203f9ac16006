"""Gradients of the layer, by hand, in small steps as the layer itself."""

from __future__ import annotations

import numpy as np

from shared_tests.faults.layer import PROJECTIONS, Layer
from shared_tests.harness.rounding import Array


def gradients(layer: Layer, cotangent: Array) -> dict[str, Array]:
    """Of sum(output * cotangent), after a call of `forward`: by "queries", "keys", "values" and parameter name."""
    arithmetic = layer.arithmetic
    cotangent, stages = arithmetic.given(cotangent), layer.stages
    found = _of_projection(layer, "W_o", stages["concatenation"], cotangent)
    of_context = layer._split(found.pop("input"))
    values = stages["split_values"]
    weights = layer.step("gradient weights", lambda: stages["attention_weights"])
    dropped, of_weights = weights, layer.product("gradient of weights", of_context, values.swapaxes(2, 3))
    if layer.keep is not None:
        keep = arithmetic.given(layer.keep)
        dropped, of_weights = arithmetic.stored(weights * keep), arithmetic.stored(of_weights * keep)
    split, of_parameters = _of_scores(layer, _slopes(layer, weights, of_weights))
    split["values"] = layer.product("gradient of values", dropped.swapaxes(2, 3), of_context)
    found |= of_parameters
    for x, name in PROJECTIONS.items():
        found |= _of_projection(layer, name, layer.inputs[x], layer._join(split[x]))
        found[x] = found.pop("input")
    return layer.step("gradients", dict, found)


def _of_projection(layer: Layer, name: str, x: Array, slopes: Array) -> dict[str, Array]:
    """Of a projection's "input", weight and bias, of which the last two sum over batch and length."""
    weight = layer.parameter(f"{name}.weight")
    assert weight is not None
    flat = slopes.reshape(-1, slopes.shape[-1])
    found = {
        "input": layer.product(f"gradient into {name}", slopes, weight),
        f"{name}.weight": layer.product(f"gradient of {name}", flat.T, x.reshape(-1, x.shape[-1])),
    }
    if layer.parameter(f"{name}.bias") is not None:
        found[f"{name}.bias"] = layer.product(f"gradient of {name}.bias", flat.T, np.ones((len(flat), 1), flat.dtype))
        found[f"{name}.bias"] = found[f"{name}.bias"][:, 0]
    return found


def _slopes(layer: Layer, weights: Array, of_weights: Array) -> Array:
    """The gradient of the scores, (batch, heads, queries, keys); a masked score has none."""
    arithmetic = layer.arithmetic
    mean = arithmetic.sum(arithmetic.stored(weights * of_weights))
    slopes = arithmetic.stored(weights * arithmetic.stored(of_weights - mean))
    return layer.step("slopes", lambda x: np.where(layer.attended, x, 0), slopes)


def _of_scores(layer: Layer, slopes: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Of split queries and keys, (batch, heads, length, head_dim), and of the parameters of the scoring."""
    queries, keys = layer.stages["split_queries"], layer.stages["split_keys"]
    if layer.config.scoring.claim:
        return _of_additive_scores(layer, slopes, queries, keys)
    root = layer.arithmetic.constant(np.sqrt(np.longdouble(queries.shape[-1])))
    slopes = layer.arithmetic.stored(slopes / root)
    return {
        "queries": layer.product("gradient of queries", slopes, keys),
        "keys": layer.product("gradient of keys", slopes.swapaxes(2, 3), queries),
    }, {}


def _of_additive_scores(
    layer: Layer, slopes: Array, queries: Array, keys: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    names = ("attention.W_q.weight", "attention.W_k.weight", "attention.w_v.weight")
    w_q, w_k, w_v = (layer.parameters[name] for name in names)
    features, arithmetic = layer.features, layer.arithmetic
    inner = arithmetic.stored(slopes[..., None] * w_v[0] * arithmetic.stored(1 - features**2))
    of_query, of_key = (arithmetic.sum(np.moveaxis(inner, axis, -1))[..., 0] for axis in (3, 2))
    split = {"queries": layer.product("gradient of queries", of_query, w_q)}
    split["keys"] = layer.product("gradient of keys", of_key, w_k)
    pairs = ((names[0], of_query, queries), (names[1], of_key, keys), (names[2], slopes[..., None], features))
    return split, {
        name: layer.product(f"gradient of {name}", a.reshape(-1, a.shape[-1]).T, b.reshape(-1, b.shape[-1]))
        for name, a, b in pairs
    }
