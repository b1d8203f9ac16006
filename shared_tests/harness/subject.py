"""Subjects: what a port gives to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_tests.cases.case import Case, Config
from shared_tests.harness.rounding import FORMATS, Array


class Subject:
    """A port of multi-head attention: NumPy arrays in, NumPy arrays out; a framework appears nowhere else.

    A port gives `build` and `forward`, and says by the attributes below what it claims. More methods are optional;
    what a port does not have is reported as not offered, never as passed:

        gradients(model, queries, keys, values, valid_lens, cotangent)
            -> {"queries", "keys", "values" and each canonical parameter name: array}
        stages(model, queries, keys, values, valid_lens) -> {stage name: array}, as in `oracle.forward`
        export_weights(model) -> the canonical dict that `build` was given
        with_mask(model, keep) -> the model in training, with this mask, (batch, heads, queries, keys), for its dropout

    Our own packages offer some more, which `implementation.Implementation` describes.
    """

    name = ""
    """How reports call it; the class's name if empty."""
    dtypes: tuple[str, ...] = ("float64", "float32")
    """What it claims to compute in; "bfloat16" and "float16" may be added. bfloat16 goes in and out as float32."""
    additive = False
    """Whether it does additive scoring, which `config.scoring` then asks for."""
    concurrent = False
    """Whether several models of it may be asked at once, each from a thread of its own."""

    device = ""
    """Where it runs, if it can tell."""

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Any:
        """Makes a model, any object, with these sizes and canonical parameters."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method build(config, weights, dtype)")

    def forward(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """Returns the output (batch, queries, num_hiddens) and the attention weights (batch, heads, queries, keys)."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward(model, queries, …)")


def offers(subject: Any, capability: str) -> bool:
    """Whether a subject has a method of this name: the one way in which capabilities are found."""
    return callable(getattr(subject, capability, None))


def claims(subject: Subject, case: Case, dtype: str) -> bool:
    """Whether a subject claims all that a case asks for."""
    scoring = case.config.scoring.claim
    able = (not scoring or getattr(subject, scoring, False)) and (not case.dropout or offers(subject, "with_mask"))
    return dtype in subject.dtypes and able


def as_subject(found: Any) -> Any:
    """The subject, with a name and every claim; it need not derive from `Subject`, nor import this project.

    Raises ValueError if it claims what there is not.
    """
    for claim, default in vars(Subject).items():
        if not claim.startswith("_") and not callable(default) and not hasattr(found, claim):
            setattr(found, claim, default)
    found.name = found.name or type(found).__name__
    if not isinstance(found.name, str) or found.name == "oracle":
        raise ValueError(f"subject: expected a name other than the oracle's, got {found.name!r}")
    dtypes = found.dtypes
    if not isinstance(dtypes, (tuple, list)) or not dtypes or not all(dtype in FORMATS for dtype in dtypes):
        raise ValueError(f"subject: expected dtypes of {', '.join(FORMATS)}, got {dtypes!r}")
    return found


def in_words(error: BaseException) -> str:
    """An error in one line, whatever it is."""
    try:
        first = (str(error).splitlines() or [""])[0]
    except Exception:
        first = "an error that cannot be printed"
    return f"{type(error).__name__}: {first}"
