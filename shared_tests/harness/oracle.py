"""The oracle: multi-head attention from its definition, one batch entry, query and head at a time.

It is no fourth port. Head h is rows h*d to (h+1)*d of each projection's weight, so nothing is
split by a reshape, repeated or transposed, and a masked key is left out of the softmax, not
filled. Every number carries the noise that the judged dtype would make (`rounding`).
"""

from __future__ import annotations

import numpy as np

from shared_tests.cases.case import Trial
from shared_tests.harness.rounding import Rounded, flat, sum_of_products

Stages = dict[str, Rounded]
Parameters = dict[str, Rounded]
PROJECTIONS = {"queries": "W_q", "keys": "W_k", "values": "W_v"}


def forward(trial: Trial) -> Stages:
    """Every stage of the layer by name, in order (contract, clause 2.5), each with its noise.

    projected_queries (batch, queries, heads * head_dim), and so keys and values; split_queries
    (batch, heads, queries, head_dim), and so keys and values; scores, before the mask, and
    attention_weights (batch, heads, queries, keys); context (batch, heads, queries, head_dim);
    concatenation (batch, queries, heads * head_dim); output (batch, queries, num_hiddens).
    """
    stages, parameters, lengths = _blank_stages(trial), _exact_parameters(trial), trial.lengths
    score = trial.config.scoring.score
    for b in range(len(trial.queries)):
        for h, rows in enumerate(_head_rows(trial)):
            for x, name in PROJECTIONS.items():
                head = _project(Rounded.exact(getattr(trial, x)[b], trial.dtype), parameters, name, rows)
                stages[f"projected_{x}"][b, :, rows] = stages[f"split_{x}"][b, h] = head
        for i, length in enumerate(lengths[b]):
            blocks = []
            for h, rows in enumerate(_head_rows(trial)):
                scores = score(stages["split_queries"][b, h, i], stages["split_keys"][b, h], parameters)
                row = _softmax(scores, length)
                attended = len(row.value)
                context = _dropped(row, trial, (b, h, i)) @ stages["split_values"][b, h, :attended]
                stages["scores"][b, h, i] = scores
                stages["attention_weights"][b, h, i, :attended] = row
                stages["context"][b, h, i] = stages["concatenation"][b, i, rows] = context
                blocks.append((context, parameters["W_o.weight"][:, rows].T))
            stages["output"][b, i] = sum_of_products(blocks + _bias(context, parameters, "W_o"))
    return stages


def backward(trial: Trial, stages: Stages, cotangent: Rounded | None = None) -> dict[str, Rounded]:
    """Gradients of sum(output * cotangent) by "queries", "keys", "values" and each canonical parameter name.

    cotangent: that of the trial, exact, if none is given.
    """
    parameters, lengths = _exact_parameters(trial), trial.lengths
    cotangent = Rounded.exact(trial.cotangent, trial.dtype) if cotangent is None else cotangent
    slopes = stages["scores"].zeros(*stages["scores"].value.shape)  # gradient of the scores
    for b in range(len(trial.queries)):
        for h, rows in enumerate(_head_rows(trial)):
            values, row = stages["split_values"][b, h], stages["attention_weights"][b, h]
            for i, length in enumerate(lengths[b]):  # a uniform row, of length 0, depends on no score
                of_kept = values[:length] @ (cotangent[b, i] @ parameters["W_o.weight"][:, rows])
                of_row = _dropped(of_kept, trial, (b, h, i))
                slopes[b, h, i, :length] = row[i, :length] * (of_row - row[i, :length] @ of_row)
    split, gradients = trial.config.scoring.backward(slopes, stages["split_queries"], stages["split_keys"], parameters)
    of_context = [cotangent @ parameters["W_o.weight"][:, rows] for rows in _head_rows(trial)]
    kept = _dropped(stages["attention_weights"], trial)
    split["values"] = [kept[:, h].swapaxes(1, 2) @ of_context[h] for h in range(len(of_context))]
    gradients |= _parameter_gradients(cotangent, stages["concatenation"], parameters, "W_o")
    for x, name in PROJECTIONS.items():
        blocks = [(split[x][h], parameters[f"{name}.weight"][rows]) for h, rows in enumerate(_head_rows(trial))]
        gradients[x] = sum_of_products(blocks)
        projected = stages[f"projected_{x}"].zeros(*stages[f"projected_{x}"].value.shape)
        for h, rows in enumerate(_head_rows(trial)):
            projected[:, :, rows] = split[x][h]
        inputs = Rounded.exact(getattr(trial, x), trial.dtype)
        gradients |= _parameter_gradients(projected, inputs, parameters, name)
    return gradients


def _head_rows(trial: Trial) -> list[slice]:
    """The rows of each head in W_q, W_k and W_v, which are its columns in W_o."""
    head_dim = trial.config.head_dim
    return [slice(h * head_dim, (h + 1) * head_dim) for h in range(trial.config.num_heads)]


def _exact_parameters(trial: Trial) -> Parameters:
    return {name: Rounded.exact(array, trial.dtype) for name, array in trial.parameters.items()}


def _blank_stages(trial: Trial) -> Stages:
    (batch, queries, _), keys = trial.queries.shape, trial.keys.shape[1]
    config = trial.config
    width, lengths = config.num_heads * config.head_dim, {"queries": queries, "keys": keys, "values": keys}
    shapes: dict[str, tuple[int, ...]] = {f"projected_{x}": (batch, length, width) for x, length in lengths.items()}
    shapes |= {f"split_{x}": (batch, config.num_heads, length, config.head_dim) for x, length in lengths.items()}
    shapes |= dict.fromkeys(("scores", "attention_weights"), (batch, config.num_heads, queries, keys))
    shapes |= {"context": (batch, config.num_heads, queries, config.head_dim)}
    shapes |= {"concatenation": (batch, queries, width), "output": (batch, queries, config.num_hiddens)}
    return {name: Rounded.exact(np.zeros(shape), trial.dtype) for name, shape in shapes.items()}


def _project(x: Rounded, parameters: Parameters, name: str, rows: slice) -> Rounded:
    return sum_of_products([(x, parameters[f"{name}.weight"][rows].T), *_bias(x, parameters, name, rows)])


def _bias(x: Rounded, parameters: Parameters, name: str, rows: slice = slice(None)) -> list[tuple[Rounded, Rounded]]:
    """A projection's bias as one more block of its sum: 1 times the bias."""
    if f"{name}.bias" not in parameters:
        return []
    return [(x.ones(*x.value.shape[:-1], 1), parameters[f"{name}.bias"][None, rows])]


def _softmax(scores: Rounded, length: int) -> Rounded:
    """The attention weights of the keys attended to: the first `length`, or all of them, uniformly, for 0."""
    return scores[:length].softmax() if length > 0 else scores.ones(len(scores.value)) / len(scores.value)


def _dropped(x: Rounded, trial: Trial, index: tuple[int, ...] = ()) -> Rounded:
    """Attention weights, or their gradient, times what dropout keeps of them."""
    if trial.keep is None:
        return x
    return x * Rounded.exact(trial.keep[index][..., : x.value.shape[-1]], trial.dtype)


def _parameter_gradients(slopes: Rounded, x: Rounded, parameters: Parameters, name: str) -> dict[str, Rounded]:
    """Gradients of a projection's weight and bias, which sum over batch and length."""
    gradients = {f"{name}.weight": flat(slopes).T @ flat(x)}
    if f"{name}.bias" in parameters:
        gradients[f"{name}.bias"] = flat(slopes).sum(axis=0)
    return gradients
