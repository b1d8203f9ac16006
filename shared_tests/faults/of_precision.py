"""Losses of precision, in the layer and in its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shared_tests.faults.arithmetic import Change, in_bits, lowered, rounded_to
from shared_tests.faults.fault import Fault
from shared_tests.harness.rounding import Array

PRODUCTS = ("W_q", "W_k", "W_v", "scores", "context", "W_o")
ADDITIVE = ("additive W_q", "additive W_k")
BACKWARD = (
    *("gradient of weights", "gradient of values", "gradient of queries", "gradient of keys"),
    *(f"gradient {how} {name}" for how in ("into", "of") for name in ("W_q", "W_k", "W_v", "W_o")),
)
SINGLE, TF32, COARSE = 2.0**-24, 2.0**-11, 2.0**-8


def _eleven(left: bool, right_too: bool) -> Change:
    def change(right: Change, layer: Any, a: Array, b: Array) -> Array:
        return right(in_bits(a, 11) if left else a, in_bits(b, 11) if right_too else b)

    return change


def _coarse(right: Change, layer: Any, a: Array, b: Array) -> Array:
    return layer.arithmetic.coarse_sums(a, b)


def _coarse_total(right: Change, layer: Any, powers: Array) -> Array:
    return layer.arithmetic.coarse_sums(powers, np.ones((powers.shape[-1], 1), powers.dtype))


def _bits(bits: int) -> Change:
    return lambda right, layer, x: in_bits(right(x), bits)


def _parameters_in(form: str) -> Mapping[str, Change]:
    return {"forward": lowered(form)}


def _of_product(step: str, kind: str = "precision") -> list[Fault]:
    """The losses that one product can have."""
    case = "additive, lengths per query" if step in ADDITIVE else "bias, lengths per query"
    changes = {
        ("float32-inside", f"{step} is computed in float32", SINGLE): lowered("float32"),
        ("tf32", f"the left operand of {step} is rounded to 11 bits", TF32): _eleven(True, False),
        ("tf32", f"the right operand of {step} is rounded to 11 bits", TF32): _eleven(False, True),
        ("bfloat16-sums", f"the sums of {step} are carried in bfloat16", COARSE): _coarse,
    }
    return [
        Fault(
            id_,
            kind,
            words,
            {f"product {step}": change},
            _form(words, step),
            unit,
            case,
            step not in ADDITIVE,
            noisy=id_ != "tf32",
        )
        for (id_, words, unit), change in changes.items()
    ]


def _form(words: str, step: str) -> str:
    side = next((f"{side} of " for side in ("left", "right") if f"the {side} operand" in words), "")
    return f"{side}{step}"


def _weights_rounded(right: Change, layer: Any, weights: Array, values: Array) -> Array:
    return right(rounded_to(weights, "float16"), values)


EVERY_PRODUCT = [f"product {name}" for name in (*PRODUCTS, *ADDITIVE)]
HALF_WEIGHTS = "the attention weights are rounded to float16"
PRECISION = [
    Fault(
        "softmax-float32",
        "precision",
        "the softmax is computed in float32",
        {"softmax": lowered("float32")},
        "",
        SINGLE,
    ),
    Fault(
        "softmax-float32",
        "precision",
        "the exponential is computed in float32",
        {"exponential": lowered("float32")},
        "exponential",
        SINGLE,
    ),
    Fault("float32-inside", "precision", "all is computed in float32", _parameters_in("float32"), "", SINGLE),
    Fault(
        "softmax-float16", "precision", "the softmax is computed in float16", {"softmax": lowered("float16")}, "", TF32
    ),
    Fault("attention-weights-float16", "precision", HALF_WEIGHTS, {"average": _weights_rounded}, "", TF32, noisy=False),
    Fault(
        "attention-weights-float16",
        "precision",
        f"{HALF_WEIGHTS}, and so returned",
        {"rows": lambda right, layer, weights: rounded_to(right(weights), "float16")},
        "returned too",
        TF32,
        noisy=False,
    ),
    Fault(
        "tf32",
        "precision",
        "the operands of every product are rounded to 11 bits",
        dict.fromkeys(EVERY_PRODUCT, _eleven(True, True)),
        "",
        TF32,
        noisy=False,
    ),
    Fault(
        "bfloat16-sums",
        "precision",
        "the sums of every product are carried in bfloat16",
        dict.fromkeys(EVERY_PRODUCT, _coarse),
        "",
        COARSE,
    ),
    Fault(
        "bfloat16-sums",
        "precision",
        "the denominator of the softmax is summed in bfloat16",
        {"total": _coarse_total},
        "softmax",
        COARSE,
    ),
    Fault(
        "exponential-13-bits",
        "precision",
        "the exponential is good to 13 bits",
        {"exponential": _bits(13)},
        "",
        2.0**-13,
        noisy=False,
    ),
    Fault(
        "tanh-13-bits",
        "precision",
        "the tanh of additive scoring is good to 13 bits",
        {"tanh": _bits(13)},
        "",
        2.0**-13,
        "additive",
        False,
        noisy=False,
    ),
    Fault(
        "float32-inside",
        "precision",
        "the tanh of additive scoring is computed in float32",
        {"tanh": lowered("float32")},
        "tanh",
        SINGLE,
        "additive",
        False,
    ),
    *(fault for step in (*PRODUCTS, *ADDITIVE) for fault in _of_product(step)),
]

OF_GRADIENTS = [fault for step in BACKWARD for fault in _of_product(step, "gradients")]
"""The same losses, in the products of the backward pass."""
