"""Subjects: what a port gives to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_tests.cases.case import Case, Config
from shared_tests.harness.errors import in_words as in_words  # where many look for it
from shared_tests.harness.rounding import FORMATS, Array


class Subject:
    """A port of multi-head attention: NumPy arrays in, NumPy arrays out; a framework appears nowhere else.

    A port gives `build` and `forward`, and says by the attributes below what it claims: what it does not claim it is
    not asked, and that reads "not claimed", neither passed nor failed. More methods are optional; what a port does not
    have reads "not offered":

        forward_alone(model, queries, keys, values, valid_lens) -> the output, of a call that asks for no weights
        gradients(model, queries, keys, values, valid_lens, cotangent)
            -> {"queries", "keys", "values" and each canonical parameter name: array}; where inputs = "self",
            "queries" is the gradient of the one array, and the other two are not looked at
        stages(model, queries, keys, values, valid_lens) -> {stage name: array}, as in `oracle.forward`
        export_weights(model) -> the canonical dict that `build` was given
        head_importance(model, batches) -> the importance of each head, (heads,), for the loss sum(output * cotangent);
            each batch is (queries, keys, values, valid_lens, cotangent)
        prune_heads(model, heads) -> a model without these heads
        with_mask(model, keep) -> the model in training, with this mask, (batch, heads, queries, keys), for its dropout

    Our own packages offer some more, which `implementation.Implementation` describes.
    """

    name = ""
    """How reports call it; the class's name if empty."""
    dtypes: tuple[str, ...] = ("float64", "float32")
    """What it claims to compute in; "bfloat16" and "float16" may be added. bfloat16 goes in and out as float32."""
    inputs = "any"
    """Or "self": queries, keys and values are always one array. It may use any of the three that it is given."""
    square = False
    """Whether query_size, key_size and value_size are always num_hiddens."""
    bias = "any"
    """Or "never", or "always"."""
    masks: tuple[str, ...] = ("none", "lengths", "lengths per query", "causal")
    """The valid_lens it takes: None, (batch,), (batch, queries), and of these the causal one, 1, 2, 3, …"""
    heads_multiple_of = 1
    """What num_heads is always a multiple of: 4 of a layer whose heads are spread evenly over four devices."""
    additive = False
    """Whether it does additive scoring, which `config.scoring` then asks for."""
    pruned = False
    """Whether it takes heads that are together not as wide as the output, as those of a pruned layer are."""
    empty = True
    """Whether it takes an empty batch, and no queries."""
    attention_weights = "per head"
    """Or "averaged": (batch, queries, keys), the mean over heads; or "none": `forward` returns the output alone."""
    rows_without_key = "uniform"
    """The attention weights of a query without a valid key. Or "zeros"; or "nan"; or "undefined": not looked at."""
    lowest_score: float | None = None
    """Masking holds for scores above this. A port that fills in -1e9 says -1e9."""
    live = True
    """Whether it answers while it is judged. Answers in files (`answers`) do not, and show nothing of what a call does:
    they are not asked clauses 7.1 and 7.2."""
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


CHOICES: dict[str, tuple[Any, ...]] = {
    "inputs": ("any", "self"),
    "square": (False, True),
    "bias": ("any", "never", "always"),
    "additive": (False, True),
    "pruned": (False, True),
    "empty": (True, False),
    "attention_weights": ("per head", "averaged", "none"),
    "rows_without_key": ("uniform", "zeros", "nan", "undefined"),
}
"""Claims that are one of a few words."""
LISTS = {"dtypes": tuple(FORMATS), "masks": Subject.masks}
"""Claims that are some of a few words."""
CLAIMS = (*LISTS, *CHOICES, "heads_multiple_of", "lowest_score")
"""All claims."""


def offers(subject: Any, capability: str) -> bool:
    """Whether a subject has a method of this name: the one way in which capabilities are found."""
    return callable(getattr(subject, capability, None))


def claims(subject: Any, case: Case, dtype: str) -> bool:
    """Whether a subject can be asked a case as it stands, with attention weights (`claims.put_to` adapts it)."""
    config, scoring = case.config, case.config.scoring.claim
    widths = {config.query_size, config.key_size, config.value_size, config.num_hiddens}
    return (
        dtype in subject.dtypes
        and (not scoring or getattr(subject, scoring, False))
        and config.num_heads % subject.heads_multiple_of == 0
        and (subject.pruned or config.num_heads * config.head_dim == config.num_hiddens)
        and (not case.dropout or offers(subject, "with_mask"))
        and (subject.inputs == "any" or case.self_attention)
        and (not subject.square or len(widths) == 1)
        and subject.bias in ("any", "always" if config.bias else "never")
        and subject.attention_weights == "per head"
    )


def as_subject(found: Any) -> Any:
    """The subject, with a name and every claim; it need not derive from `Subject`, nor import this project.

    Raises ValueError, in one line, if it claims what there is not.
    """
    for claim, default in vars(Subject).items():
        if not claim.startswith("_") and not callable(default) and not hasattr(found, claim):
            setattr(found, claim, default)
    found.name = found.name or type(found).__name__
    if not isinstance(found.name, str) or found.name == "oracle":
        raise ValueError(f"subject: expected a name other than the oracle's, got {found.name!r}")
    for claim, words in LISTS.items():
        given = getattr(found, claim)
        if not isinstance(given, (tuple, list)) or not given or not all(word in words for word in given):
            raise ValueError(f"subject: expected {claim} of {', '.join(words)}, got {given!r}")
    for claim, words in CHOICES.items():
        if not any(getattr(found, claim) is word or getattr(found, claim) == word for word in words):
            raise ValueError(f"subject: expected {claim} to be {_either(words)}, got {getattr(found, claim)!r}")
    multiple, lowest = found.heads_multiple_of, found.lowest_score
    if not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"subject: expected heads_multiple_of to be an integer of at least 1, got {multiple!r}")
    if not (lowest is None or (isinstance(lowest, (int, float)) and lowest < 0)):
        raise ValueError(f"subject: expected lowest_score to be a negative number or None, got {lowest!r}")
    return found


def _either(words: tuple[Any, ...]) -> str:
    return " or ".join(map(repr, words))
