"""Ports as people write them, which owe nothing to the catalogue's layer: right for their own purpose, or wrong on top.

Styles are what published ports do: one array, one width, a fill of -1e9 or minus infinity, rows of zeros or NaN,
averaged attention weights or none, a reshape that takes no empty batch. They claim nothing of it.
"""

import numpy as np
import pytest

from shared_tests import judge
from shared_tests.faults.diagnosis import diagnose

STYLES = [
    (),
    ("one array", "one width"),
    ("one array", "one width", "biases", "no weights", "minus infinity"),
    ("no weights", "zeros"),
    ("averaged", "minus infinity", "one width"),
    ("-1e9 put", "no empty"),
    ("-1e9 added", "one array", "no weights"),
    ("one array", "causal", "minus infinity", "no empty"),
    ("lengths", "averaged", "zeros"),
    ("no biases", "softmax in float32"),
    ("one array", "one width", "biases", "-1e9 added", "no empty"),
]
OF_PRUNED = "scale-of-equal-heads"
"""Seen in layers that take fewer heads than they were made with."""
FAULTS = [
    *("W_o-transposed", "W_q-transposed", "W_q-W_k-swapped", "W_q-bias-missing", "W_v-bias-missing"),
    *("heads-view-split", "heads-interleaved", "heads-joined-interleaved", "heads-reversed"),
    *(
        "output-projection-missing",
        "scale-missing",
        "scale-of-hidden",
        "scale-twice",
        "softmax-over-queries",
        "mask-one-too-long",
    ),
    *("mask-one-too-short", "mask-first-query", "mask-tiled-over-heads", "mask-inverted", "mask-next-entry"),
    *("mask-ignored", "mask-after-softmax"),
]
NOT_SEEN = {"no biases": "bias", "lengths": "mask-first-query", "causal": "mask-next-entry"}
"""What a style cannot show, by a part of the fault's id."""
WRONG = [
    (style, fault)
    for i, fault in enumerate(FAULTS)
    for style in (STYLES[i % len(STYLES)], STYLES[(5 * i + 3) % len(STYLES)])
    if not any(NOT_SEEN.get(word, "-") in fault for word in style)
]


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


class Stranger:
    """Multi-head attention with boolean masks, as one would write it from a paper."""

    name = "stranger"

    def __init__(self, style, fault=""):
        self.style, self.fault = style, fault

    def build(self, config, weights, dtype):
        widths = {config.query_size, config.key_size, config.value_size, config.num_hiddens}
        if "one width" in self.style and len(widths) > 1:
            raise ValueError("embed_dim must be the width of every input")
        if "biases" in self.style:
            weights["W_q.bias"]
        if "no biases" in self.style and "W_q.bias" in weights:
            raise TypeError("unexpected keyword bias")
        return config, weights

    def forward(self, model, queries, keys, values, valid_lens):
        with np.errstate(all="ignore"):
            return self.attend(*model, queries, keys, values, valid_lens)

    def linear(self, weights, x, name):
        matrix = weights[f"{name}.weight"]
        y = x @ (matrix if self.fault == f"{name}-transposed" else matrix.T)
        bias = weights.get(f"{name}.bias")
        return y if bias is None or self.fault == f"{name}-bias-missing" else y + bias

    def attend(self, config, weights, queries, keys, values, valid_lens):
        self.refuse(queries, keys, valid_lens)
        q, k, v = ("W_k", "W_q", "W_v") if self.fault == "W_q-W_k-swapped" else ("W_q", "W_k", "W_v")
        q = self.split(self.linear(weights, queries, q), config.num_heads)
        k = self.split(self.linear(weights, keys, k), config.num_heads)
        v = self.split(self.linear(weights, values, v), config.num_heads)
        divisor = {"scale-missing": 1, "scale-of-hidden": config.num_hiddens, "scale-twice": q.shape[-1] ** 2}
        divisor[OF_PRUNED] = config.num_hiddens / config.num_heads
        scores = q @ k.swapaxes(2, 3) / np.sqrt(np.array(divisor.get(self.fault, q.shape[-1]), q.dtype))
        keep = self.mask(valid_lens, *scores.shape)
        weighed = self.weigh(scores, keep)
        joined = self.join(weighed @ v)
        output = joined if self.fault == "output-projection-missing" else self.linear(weights, joined, "W_o")
        if "no weights" in self.style:
            return output
        return output, weighed.mean(axis=1) if "averaged" in self.style else weighed

    def refuse(self, queries, keys, valid_lens):
        if "one array" in self.style and (queries.shape != keys.shape or (queries != keys).any()):
            raise AssertionError("self-attention only")
        if "no empty" in self.style:
            queries.reshape(len(queries), queries.shape[1], -1)  # fails where there is nothing
        causal = np.arange(1, queries.shape[1] + 1)
        if "causal" in self.style and (valid_lens is None or (valid_lens != causal).any()):
            raise ValueError("causal only")
        if "lengths" in self.style and valid_lens is not None and valid_lens.ndim == 2:
            raise ValueError("expected a mask (batch, keys)")

    def split(self, x, heads):
        batch, length, width = x.shape
        if self.fault == "heads-view-split":
            return x.reshape(batch, heads, length, width // heads)
        if self.fault == "heads-interleaved":
            return x.reshape(batch, length, width // heads, heads).transpose(0, 3, 1, 2)
        return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)

    def join(self, x):
        batch, heads, length, depth = x.shape
        if self.fault == "heads-reversed":
            x = x[:, ::-1]
        order = (0, 2, 3, 1) if self.fault == "heads-joined-interleaved" else (0, 2, 1, 3)
        return x.transpose(order).reshape(batch, length, heads * depth)

    def mask(self, valid_lens, batch, heads, queries, keys):
        if valid_lens is None or self.fault == "mask-ignored":
            return np.ones((batch, heads, queries, keys), bool)
        per_query = np.broadcast_to(valid_lens if valid_lens.ndim == 2 else valid_lens[:, None], (batch, queries))
        per_query = per_query + {"mask-one-too-long": 1, "mask-one-too-short": -1}.get(self.fault, 0)
        if self.fault == "mask-first-query":
            per_query = np.repeat(per_query[:, :1], queries, axis=1)
        if self.fault == "mask-next-entry":
            per_query = np.roll(per_query, -1, axis=0)
        keep = np.arange(keys) < per_query[..., None]
        if self.fault == "mask-tiled-over-heads":
            return np.tile(keep, (heads, 1, 1)).reshape(batch, heads, queries, keys)
        keep = np.repeat(keep[:, None], heads, axis=1)
        return ~keep if self.fault == "mask-inverted" else keep

    def weigh(self, scores, keep):
        axis = -2 if self.fault == "softmax-over-queries" else -1
        if self.fault == "mask-after-softmax":
            return softmax(scores) * keep
        if "-1e9 added" in self.style:
            scores = scores + np.where(keep, 0, scores.dtype.type(-1e9))
        else:
            fill = -1e9 if "-1e9 put" in self.style else np.finfo(scores.dtype).min
            fill = -np.inf if {"minus infinity", "zeros"} & set(self.style) else fill
            scores = np.where(keep, scores, scores.dtype.type(fill))
        if "softmax in float32" in self.style:
            return softmax(scores.astype(np.float32), axis).astype(scores.dtype)
        weighed = softmax(scores, axis)
        return np.nan_to_num(weighed) if "zeros" in self.style else weighed


@pytest.mark.parametrize("style", STYLES, ids=lambda style: ", ".join(style) or "plain")
def test_a_right_port_holds_with_the_claims_that_diagnosis_prints(style):
    port = Stranger(style)
    found = diagnose(port)
    assert found.holds == (not style)
    assert all(cause.fault for cause in found.causes), found.words
    for name, value in found.claims.items():
        setattr(port, name, value)
    report = judge(port)
    assert report.holds, str(report)


@pytest.mark.parametrize(("style", "fault"), WRONG, ids=lambda x: x if isinstance(x, str) else ", ".join(x) or "plain")
def test_what_is_wrong_is_named_among_what_is_narrow(style, fault):
    found = diagnose(Stranger(style, fault))
    assert fault in found.faults, found.words


@pytest.mark.parametrize("style", [STYLES[0], STYLES[2], STYLES[7]], ids=", ".join)
def test_the_scale_of_pruned_heads_is_named(style):
    port = Stranger(style, OF_PRUNED)
    assert OF_PRUNED not in diagnose(port).faults  # with heads of num_hiddens / num_heads alone it is right
    port.pruned = True
    found = diagnose(port)
    assert OF_PRUNED in found.faults, found.words
