"""The oracle: multi-head attention from its definition, one batch entry, head and query at a time.

It is no fourth port. Head h is rows h*d to (h+1)*d of each projection's weight, so nothing is
split by a reshape, repeated or transposed, and a masked key is left out of the softmax, not
filled. Every number carries the noise that the judged dtype would make (`rounding`).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from shared_tests.harness.case import Trial
from shared_tests.harness.rounding import Rounded

Stages = dict[str, Rounded]
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
        for h in range(trial.config.num_heads):
            rows = slice(h * trial.config.depth, (h + 1) * trial.config.depth)
            for x, name in PROJECTIONS.items():
                head = _project(Rounded.exact(getattr(trial, x)[b], trial.dtype), weights, name, rows)
                stages[f"projected_{x}"][b, :, rows] = stages[f"split_{x}"][b, h] = head
            keys, values = stages["split_keys"][b, h], stages["split_values"][b, h]
            for i, length in enumerate(lengths[b]):
                scores = _score(stages["split_queries"][b, h, i], keys, weights)
                row = _softmax(scores, length)
                stages["scores"][b, h, i] = scores
                stages["weights"][b, h, i, : len(row.value)] = row
                stages["context"][b, h, i] = row @ values[: len(row.value)]
                stages["concatenation"][b, i, rows] = stages["context"][b, h, i]
        stages["output"][b] = _project(stages["concatenation"][b], weights, "W_o", slice(None))
    return stages


def backward(trial: Trial, stages: Stages) -> dict[str, Rounded]:
    """Gradients of sum(output * cotangent) by "queries", "keys", "values" and each canonical weight name."""
    weights, lengths, dtype = _exact_weights(trial), trial.lengths, trial.dtype
    cotangent = Rounded.exact(trial.cotangent, dtype)
    concatenation, gradients = _project_backward(cotangent, stages["concatenation"], weights, "W_o")
    split = {x: cotangent.zeros(*stages[f"split_{x}"].value.shape) for x in PROJECTIONS}
    scores = cotangent.zeros(*stages["scores"].value.shape)
    for b in range(len(trial.queries)):
        for h in range(trial.config.num_heads):
            rows = slice(h * trial.config.depth, (h + 1) * trial.config.depth)
            context, values = concatenation[b, :, rows], stages["split_values"][b, h]
            for i, length in enumerate(lengths[b]):  # a uniform row, of length 0, depends on no score
                row = stages["weights"][b, h, i, :length]
                slopes = values[:length] @ context[i]
                scores[b, h, i, :length] = row * (slopes - row @ slopes)
            split["values"][b, h] = stages["weights"][b, h].T @ context
    split["queries"], split["keys"], scoring = _score_backward(scores, stages, weights)
    for x, name in PROJECTIONS.items():
        projected = cotangent.zeros(*stages[f"projected_{x}"].value.shape)
        for h in range(trial.config.num_heads):
            projected[:, :, h * trial.config.depth : (h + 1) * trial.config.depth] = split[x][:, h]
        inputs = Rounded.exact(getattr(trial, x), dtype)
        gradients[x], of_weights = _project_backward(projected, inputs, weights, name)
        gradients |= of_weights
    return gradients | scoring


def _exact_weights(trial: Trial) -> dict[str, Rounded]:
    return {name: Rounded.exact(array, trial.dtype) for name, array in trial.weights.items()}


def _blank_stages(trial: Trial) -> Stages:
    (batch, queries, _), keys = trial.queries.shape, trial.keys.shape[1]
    config = trial.config
    lengths = {"queries": queries, "keys": keys, "values": keys}
    shapes = {f"projected_{x}": (batch, length, config.num_hiddens) for x, length in lengths.items()}
    shapes |= {f"split_{x}": (batch, config.num_heads, length, config.depth) for x, length in lengths.items()}
    shapes |= {name: (batch, config.num_heads, queries, keys) for name in ("scores", "weights")}
    shapes |= {"context": (batch, config.num_heads, queries, config.depth)}
    shapes |= {name: (batch, queries, config.num_hiddens) for name in ("concatenation", "output")}
    return {name: Rounded.exact(np.zeros(shape), trial.dtype) for name, shape in shapes.items()}


def _project(x: Rounded, weights: dict[str, Rounded], name: str, rows: slice) -> Rounded:
    product = x @ weights[f"{name}.weight"][rows].T
    return product + weights[f"{name}.bias"][rows] if f"{name}.bias" in weights else product


def _project_backward(
    gradient: Rounded, x: Rounded, weights: dict[str, Rounded], name: str
) -> tuple[Rounded, dict[str, Rounded]]:
    """Gradients of a projection's input, and of its weight and bias, which sum over batch and length."""
    rows = gradient.value.shape[0] * gradient.value.shape[1]
    flat, weight = gradient.reshape(rows, gradient.value.shape[2]), weights[f"{name}.weight"]
    of_weights = {f"{name}.weight": flat.T @ x.reshape(rows, x.value.shape[2])}
    if f"{name}.bias" in weights:
        of_weights[f"{name}.bias"] = flat.sum(axis=0)
    return gradient @ weight, of_weights


def _softmax(scores: Rounded, length: int) -> Rounded:
    """The weights of the keys attended to: the first `length`, or all of them, uniformly, for 0."""
    if length > 0:
        return scores[:length].softmax()
    return scores.ones() / len(scores.value)


def _score(query: Rounded, keys: Rounded, weights: dict[str, Rounded]) -> Rounded:
    """The scores of one query against every key, dot-product or, if it has weights, additive."""
    if "attention.w_v.weight" not in weights:
        return (query / sqrt(len(query.value))) @ keys.T
    return _features(query, keys, weights) @ weights["attention.w_v.weight"][0]


def _features(query: Rounded, keys: Rounded, weights: dict[str, Rounded]) -> Rounded:
    """tanh(W_q query + W_k key), (keys, additive hidden)."""
    return (query @ weights["attention.W_q.weight"].T + keys @ weights["attention.W_k.weight"].T).tanh()


def _score_backward(
    scores: Rounded, stages: Stages, weights: dict[str, Rounded]
) -> tuple[Rounded, Rounded, dict[str, Rounded]]:
    """Gradients of the split queries and keys, and of the scoring weights, from those of the scores."""
    queries, keys = stages["split_queries"], stages["split_keys"]
    if "attention.w_v.weight" in weights:
        return _additive_backward(scores, queries, keys, weights)
    root = sqrt(queries.value.shape[-1])
    swapped = scores.swapaxes(2, 3)
    return (scores @ keys) / root, (swapped @ queries) / root, {}


def _additive_backward(
    scores: Rounded, queries: Rounded, keys: Rounded, weights: dict[str, Rounded]
) -> tuple[Rounded, Rounded, dict[str, Rounded]]:
    w_v = weights["attention.w_v.weight"]
    hidden, (batch, heads, num_queries, num_keys) = w_v.value.shape[1], scores.value.shape
    features = scores.zeros(batch, heads, num_queries, num_keys, hidden)
    for b, h, i in np.ndindex(batch, heads, num_queries):
        features[b, h, i] = _features(queries[b, h, i], keys[b, h], weights)
    inner = scores[..., None] * w_v[0] * features.tanh_slope()  # of what tanh was taken of
    of_query, of_key = inner.sum(axis=3), inner.sum(axis=2)
    gradients = {"attention.w_v.weight": _flat(scores[..., None]).T @ _flat(features)}
    gradients["attention.W_q.weight"] = _flat(of_query).T @ _flat(queries)
    gradients["attention.W_k.weight"] = _flat(of_key).T @ _flat(keys)
    of_queries = of_query @ weights["attention.W_q.weight"]
    return of_queries, of_key @ weights["attention.W_k.weight"], gradients


def _flat(x: Rounded) -> Rounded:
    """All axes but the last as one."""
    *axes, width = x.value.shape
    return x.reshape(int(np.prod(axes)), width)
