"""The oracle: multi-head attention from its definition, one batch entry, query and head at a time.

It is no fourth port. Head h is rows h*d to (h+1)*d of each projection's weight, so nothing is
split by a reshape, repeated or transposed, and a masked key is left out of the softmax, not
filled. Every number carries the noise that the judged dtype would make (`rounding`).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from shared_tests.harness.case import Trial
from shared_tests.harness.rounding import Rounded, sum_of_products

Stages = dict[str, Rounded]
Weights = dict[str, Rounded]
PROJECTIONS = {"queries": "W_q", "keys": "W_k", "values": "W_v"}


def forward(trial: Trial) -> Stages:
    """Every stage of the layer by name, in order (contract, clause 2.5), each with its noise.

    projected_queries (batch, queries, hidden), and so keys and values; split_queries (batch,
    heads, queries, depth), and so keys and values; scores, before the mask, and weights (batch,
    heads, queries, keys); context (batch, heads, queries, depth); concatenation (batch, queries,
    hidden); output (batch, queries, hidden).
    """
    stages, weights, lengths = _blank_stages(trial), _exact_weights(trial), trial.lengths
    for b in range(len(trial.queries)):
        for h, rows in enumerate(_head_rows(trial)):
            for x, name in PROJECTIONS.items():
                head = _project(Rounded.exact(getattr(trial, x)[b], trial.dtype), weights, name, rows)
                stages[f"projected_{x}"][b, :, rows] = stages[f"split_{x}"][b, h] = head
        for i, length in enumerate(lengths[b]):
            blocks = []
            for h, rows in enumerate(_head_rows(trial)):
                scores = _score(stages["split_queries"][b, h, i], stages["split_keys"][b, h], weights)
                row = _softmax(scores, length)
                attended = len(row.value)
                context = _dropped(row, trial, (b, h, i)) @ stages["split_values"][b, h, :attended]
                stages["scores"][b, h, i] = scores
                stages["weights"][b, h, i, :attended] = row
                stages["context"][b, h, i] = stages["concatenation"][b, i, rows] = context
                blocks.append((context, weights["W_o.weight"][:, rows].T))
            stages["output"][b, i] = sum_of_products(blocks + _bias(context, weights, "W_o"))
    return stages


def backward(trial: Trial, stages: Stages, cotangent: Rounded | None = None) -> dict[str, Rounded]:
    """Gradients of sum(output * cotangent) by "queries", "keys", "values" and each canonical weight name.

    cotangent: that of the trial, exact, if none is given.
    """
    weights, lengths = _exact_weights(trial), trial.lengths
    cotangent = Rounded.exact(trial.cotangent, trial.dtype) if cotangent is None else cotangent
    slopes = stages["scores"].zeros(*stages["scores"].value.shape)  # of the scores
    for b in range(len(trial.queries)):
        for h, rows in enumerate(_head_rows(trial)):
            values, row = stages["split_values"][b, h], stages["weights"][b, h]
            for i, length in enumerate(lengths[b]):  # a uniform row, of length 0, depends on no score
                of_kept = values[:length] @ (cotangent[b, i] @ weights["W_o.weight"][:, rows])
                of_row = _dropped(of_kept, trial, (b, h, i))
                slopes[b, h, i, :length] = row[i, :length] * (of_row - row[i, :length] @ of_row)
    split, gradients = _score_backward(slopes, stages, weights)
    of_context = [cotangent @ weights["W_o.weight"][:, rows] for rows in _head_rows(trial)]
    kept = _dropped(stages["weights"], trial)
    split["values"] = [kept[:, h].swapaxes(1, 2) @ of_context[h] for h in range(len(of_context))]
    gradients |= _parameter_gradients(cotangent, stages["concatenation"], weights, "W_o")
    for x, name in PROJECTIONS.items():
        blocks = [(split[x][h], weights[f"{name}.weight"][rows]) for h, rows in enumerate(_head_rows(trial))]
        gradients[x] = sum_of_products(blocks)
        projected = stages[f"projected_{x}"].zeros(*stages[f"projected_{x}"].value.shape)
        for h, rows in enumerate(_head_rows(trial)):
            projected[:, :, rows] = split[x][h]
        inputs = Rounded.exact(getattr(trial, x), trial.dtype)
        gradients |= _parameter_gradients(projected, inputs, weights, name)
    return gradients


def _head_rows(trial: Trial) -> list[slice]:
    """The rows of each head in the weights of the projections, which are its columns in those of W_o."""
    depth = trial.config.depth
    return [slice(h * depth, (h + 1) * depth) for h in range(trial.config.num_heads)]


def _exact_weights(trial: Trial) -> Weights:
    return {name: Rounded.exact(array, trial.dtype) for name, array in trial.weights.items()}


def _blank_stages(trial: Trial) -> Stages:
    (batch, queries, _), keys = trial.queries.shape, trial.keys.shape[1]
    config = trial.config
    lengths = {"queries": queries, "keys": keys, "values": keys}
    shapes: dict[str, tuple[int, ...]] = {
        f"projected_{x}": (batch, length, config.num_hiddens) for x, length in lengths.items()
    }
    shapes |= {f"split_{x}": (batch, config.num_heads, length, config.depth) for x, length in lengths.items()}
    shapes |= dict.fromkeys(("scores", "weights"), (batch, config.num_heads, queries, keys))
    shapes |= {"context": (batch, config.num_heads, queries, config.depth)}
    shapes |= dict.fromkeys(("concatenation", "output"), (batch, queries, config.num_hiddens))
    return {name: Rounded.exact(np.zeros(shape), trial.dtype) for name, shape in shapes.items()}


def _project(x: Rounded, weights: Weights, name: str, rows: slice) -> Rounded:
    return sum_of_products([(x, weights[f"{name}.weight"][rows].T), *_bias(x, weights, name, rows)])


def _bias(x: Rounded, weights: Weights, name: str, rows: slice = slice(None)) -> list[tuple[Rounded, Rounded]]:
    """A projection's bias as one more block of its sum: 1 times the bias."""
    if f"{name}.bias" not in weights:
        return []
    return [(x.ones(*x.value.shape[:-1], 1), weights[f"{name}.bias"][None, rows])]


def _softmax(scores: Rounded, length: int) -> Rounded:
    """The weights of the keys attended to: the first `length`, or all of them, uniformly, for 0."""
    return scores[:length].softmax() if length > 0 else scores.ones(len(scores.value)) / len(scores.value)


def _dropped(x: Rounded, trial: Trial, index: tuple[int, ...] = ()) -> Rounded:
    """Weights, or what comes back to them, times what dropout keeps of them."""
    if trial.keep is None:
        return x
    return x * Rounded.exact(trial.keep[index][..., : x.value.shape[-1]], trial.dtype)


def _score(query: Rounded, keys: Rounded, weights: Weights) -> Rounded:
    """The scores of one query against every key, dot-product or, if it has weights, additive."""
    if "attention.w_v.weight" not in weights:
        return (query / sqrt(len(query.value))) @ keys.T
    return _features(query, keys, weights) @ weights["attention.w_v.weight"][0]


def _features(query: Rounded, keys: Rounded, weights: Weights) -> Rounded:
    """tanh(W_q query + W_k key), (keys, additive hidden)."""
    return (query @ weights["attention.W_q.weight"].T + keys @ weights["attention.W_k.weight"].T).tanh()


def _parameter_gradients(slopes: Rounded, x: Rounded, weights: Weights, name: str) -> dict[str, Rounded]:
    """Gradients of a projection's weight and bias, which sum over batch and length."""
    gradients = {f"{name}.weight": _flat(slopes).T @ _flat(x)}
    if f"{name}.bias" in weights:
        gradients[f"{name}.bias"] = _flat(slopes).sum(axis=0)
    return gradients


def _score_backward(
    slopes: Rounded, stages: Stages, weights: Weights
) -> tuple[dict[str, list[Rounded]], dict[str, Rounded]]:
    """Gradients of each head's queries and keys, and of the scoring weights, from those of the scores."""
    queries, keys = stages["split_queries"], stages["split_keys"]
    if "attention.w_v.weight" in weights:
        return _additive_backward(slopes, queries, keys, weights)
    heads, scaled = range(slopes.value.shape[1]), slopes / sqrt(queries.value.shape[-1])
    return {
        "queries": [scaled[:, h] @ keys[:, h] for h in heads],
        "keys": [scaled[:, h].swapaxes(1, 2) @ queries[:, h] for h in heads],
    }, {}


def _additive_backward(
    slopes: Rounded, queries: Rounded, keys: Rounded, weights: Weights
) -> tuple[dict[str, list[Rounded]], dict[str, Rounded]]:
    w_v = weights["attention.w_v.weight"]
    features = slopes.zeros(*slopes.value.shape, w_v.value.shape[1])
    for b, h, i in np.ndindex(*slopes.value.shape[:3]):
        features[b, h, i] = _features(queries[b, h, i], keys[b, h], weights)
    inner = slopes[..., None] * w_v[0] * features.tanh_slope()  # of what tanh was taken of
    of_query, of_key = inner.sum(axis=3), inner.sum(axis=2)
    heads = range(slopes.value.shape[1])
    return {
        "queries": [of_query[:, h] @ weights["attention.W_q.weight"] for h in heads],
        "keys": [of_key[:, h] @ weights["attention.W_k.weight"] for h in heads],
    }, {
        "attention.w_v.weight": _flat(slopes[..., None]).T @ _flat(features),
        "attention.W_q.weight": _flat(of_query).T @ _flat(queries),
        "attention.W_k.weight": _flat(of_key).T @ _flat(keys),
    }


def _flat(x: Rounded) -> Rounded:
    """All axes but the last as one."""
    *axes, width = x.value.shape
    return x.reshape(int(np.prod(axes)), width)
