"""The oracle: multi-head attention from its definition, each head with rows of its own in the weights.

It is no fourth port. Head h is rows h*d to (h+1)*d of each projection's weight, so nothing is
split by a reshape, repeated or transposed, and a masked key is left out of the softmax, not
filled. Every number carries the noise that the judged dtype would make (`rounding`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness.rounding import FORMATS, Array, Rounded, affine, flat, sum_of_products

Stages = dict[str, Rounded]
Parameters = Mapping[str, Rounded]
PROJECTIONS = {"queries": "W_q", "keys": "W_k", "values": "W_v"}


def forward(trial: Trial, parameters: Parameters | None = None) -> Stages:
    """Every stage of the layer by name, in order (contract, clause 2.5), each with its noise.

    projected_queries (batch, queries, heads * head_dim), and so keys and values; split_queries
    (batch, heads, queries, head_dim), and so keys and values; scores, before the mask, and
    attention_weights (batch, heads, queries, keys); context (batch, heads, queries, head_dim);
    concatenation (batch, queries, heads * head_dim); output (batch, queries, num_hiddens).

    parameters: those of the trial, exact, if none are given.
    """
    given, parameters = _given(trial, parameters, "forward")
    split = {x: _project(given[x], parameters, name, _head_rows(trial)) for x, name in PROJECTIONS.items()}
    scores = trial.config.scoring.score(split["queries"], split["keys"], parameters)
    weights = _softmax(scores, trial)
    context = sum_of_products([(_dropped(weights, trial), split["values"])], _attended(trial)[:, None, :, None])
    concatenation = _side_by_side(context, trial)
    output = affine(concatenation, parameters["W_o.weight"].T, parameters.get("W_o.bias"))
    return {
        **{f"projected_{x}": _side_by_side(heads, trial) for x, heads in split.items()},
        **{f"split_{x}": heads for x, heads in split.items()},
        "scores": scores,
        "attention_weights": weights,
        "context": context,
        "concatenation": concatenation,
        "output": output,
    }


def backward(
    trial: Trial, stages: Stages, cotangent: Rounded | None = None, parameters: Parameters | None = None
) -> dict[str, Rounded]:
    """Gradients of sum(output * cotangent) by "queries", "keys", "values" and each canonical parameter name.

    cotangent and parameters: those of the trial, exact, if none are given.
    """
    given, parameters = _given(trial, parameters, "backward")
    form = given["queries"].form
    stages = {name: stage.under(form) for name, stage in stages.items()}
    cotangent = given["cotangent"] if cotangent is None else cotangent.under(form)
    rows = _head_rows(trial)
    of_context = cotangent[:, None] @ parameters["W_o.weight"][:, rows].swapaxes(0, 1)  # (out, heads, d): by head
    slopes = _score_slopes(trial, stages, of_context)
    split, gradients = trial.config.scoring.backward(slopes, stages["split_queries"], stages["split_keys"], parameters)
    split["values"] = _dropped(stages["attention_weights"], trial).T @ of_context
    gradients |= _parameter_gradients(cotangent, stages["concatenation"], parameters, "W_o")
    for x, name in PROJECTIONS.items():
        projected = _side_by_side(split[x], trial)
        gradients[x] = projected @ parameters[f"{name}.weight"]
        gradients |= _parameter_gradients(projected, given[x], parameters, name)
    return gradients


def importance(trial: Trial, stages: Stages) -> Rounded:
    """How much sum(output * cotangent) depends on each head (Michel, Levy & Neubig 2019, section 4.1): (heads,).

    That is |d sum / d gate| of a gate on the head's context, averaged over entries: of context . its gradient. Its
    errors are those of the gradient of W_o, of which a head's columns, times themselves, are summed in float64.
    """
    given, parameters = _given(trial, None, "gates")
    rows, double = _head_rows(trial), FORMATS["float64"].seeded(trial.name, trial.dtype, "gates")
    of_context = given["cotangent"][:, None] @ parameters["W_o.weight"][:, rows].swapaxes(0, 1)
    value = (stages["context"].value * of_context.value).sum((-2, -1))
    slopes = given["cotangent"].T @ stages["concatenation"].under(given["cotangent"].form)  # (batch, out, heads * d)
    products = (slopes.under(double) * Rounded.exact(trial.parameters["W_o.weight"], double))[:, :, rows]
    errors = products.sum(axis=3).sum(axis=1).errors * np.where(value < 0, -1.0, 1.0)
    entries = max(len(value), 1)
    return Rounded(np.abs(value).sum(axis=0) / entries, errors.sum(axis=1) / entries, double)


def _given(trial: Trial, parameters: Parameters | None, direction: str) -> tuple[Stages, Stages]:
    """The arrays of the trial, exact, and the parameters, exact if none are given, with a generator of their own."""
    form = FORMATS[trial.dtype].seeded(trial.name, trial.dtype, direction)
    arrays = {x: Rounded.exact(getattr(trial, x), form) for x in (*PROJECTIONS, "cotangent")}
    if parameters is None:
        return arrays, {name: Rounded.exact(array, form) for name, array in trial.parameters.items()}
    return arrays, {name: parameter.under(form) for name, parameter in parameters.items()}


def _head_rows(trial: Trial) -> Array:
    """(heads, head_dim): the rows of each head in W_q, W_k and W_v, which are its columns in W_o."""
    head_dim = trial.config.head_dim
    return np.array([range(h * head_dim, (h + 1) * head_dim) for h in range(trial.config.num_heads)])


def _project(x: Rounded, parameters: Parameters, name: str, rows: Array) -> Rounded:
    """(batch, heads, length, head_dim): the projection by each head's rows."""
    bias = parameters.get(f"{name}.bias")
    return affine(x[:, None], parameters[f"{name}.weight"][rows].T, None if bias is None else bias[rows[:, None]])


def _side_by_side(heads: Rounded, trial: Trial) -> Rounded:
    """What is (batch, heads, length, head_dim) as (batch, length, heads * head_dim): each head at its rows' places."""
    batch, _, length, _ = heads.value.shape
    joined = heads.zeros(batch, length, trial.config.num_heads * trial.config.head_dim)
    for h, rows in enumerate(_head_rows(trial)):
        joined[:, :, rows[0] : rows[-1] + 1] = heads[:, h]  # a slice is copied faster than its places are
    return joined


def _attended(trial: Trial) -> Array:
    """(batch, queries): how many keys each query attends to, masked ones left out."""
    return np.where(trial.lengths > 0, trial.lengths, trial.keys.shape[1])


def _of_length(trial: Trial) -> Iterator[tuple[int, tuple[Array, Array]]]:
    """Each length there is, with the entries and queries that have it."""
    for length in np.unique(trial.lengths):
        entries, queries = np.nonzero(trial.lengths == length)
        yield int(length), (entries, queries)


def _softmax(scores: Rounded, trial: Trial) -> Rounded:
    """The attention weights: of the first `length` keys; for 0 of all, uniformly, or of none; of others exactly 0."""
    weights = scores.zeros(*scores.value.shape)
    by_query, of_query = weights.swapaxes(1, 2), scores.swapaxes(1, 2)  # (batch, queries, heads, keys)
    for length, (entries, queries) in _of_length(trial):
        if length:
            by_query[entries, queries, :, :length] = of_query[entries, queries, :, :length].softmax()
        elif trial.rows_without_key != "zeros":
            by_query[entries, queries] = scores.ones(1) / scores.value.shape[-1]  # one number, so one error
    return weights


def _score_slopes(trial: Trial, stages: Stages, of_context: Rounded) -> Rounded:
    """The gradient of the scores, from that of the context; a uniform row depends on no score."""
    weights = stages["attention_weights"]
    of_weights = _dropped(of_context @ stages["split_values"].T, trial)
    slopes = weights.zeros(*weights.value.shape)
    by_query, w, dw = (x.swapaxes(1, 2) for x in (slopes, weights, of_weights))  # (batch, queries, heads, keys)
    of_output = of_context.inner(stages["context"]).swapaxes(1, 2)
    for length, (entries, queries) in _of_length(trial):
        if length:
            row, of_row = w[entries, queries, :, :length], dw[entries, queries, :, :length]
            mean = _mean_slope(row, of_row, of_output[entries, queries])
            by_query[entries, queries, :, :length] = row * (of_row - mean[..., None])
    return slopes


def _mean_slope(row: Rounded, of_row: Rounded, of_output: Rounded) -> Rounded:
    """The mean of the gradients of a row of attention weights, weighted by these: sum_k P_k dP_k.

    It is also dO . O (Dao et al. 2022, appendix B.2), by the context and its gradient. Right layers compute either, so
    its errors are those of the second, in which less cancels, and those that the first's own sum makes.
    """
    own = row.free.inner(of_row.free)
    return Rounded(own.value, of_output.errors + own.errors, row.form)


def _dropped(x: Rounded, trial: Trial) -> Rounded:
    """Attention weights, or their gradient, times what dropout keeps of them."""
    return x if trial.keep is None else x * Rounded.exact(trial.keep, x.form)


def _parameter_gradients(slopes: Rounded, x: Rounded, parameters: Parameters, name: str) -> Stages:
    """Gradients of a projection's weight and bias, which sum over batch and length."""
    gradients = {f"{name}.weight": flat(slopes).T @ flat(x)}
    if f"{name}.bias" in parameters:
        gradients[f"{name}.bias"] = flat(slopes).sum(axis=0)
    return gradients
