"""Claims: which cases a subject is asked, how each is put to it, and what was not claimed, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Lengths, Trial
from shared_tests.harness.rounding import Expected
from shared_tests.harness.subject import Subject, offers


def asked(cases: Mapping[str, Case], subject: Any) -> dict[str, Case]:
    """The cases as they are put to a subject, less those that its claims turn into another that it is asked."""
    put = {name: put_to(subject, case) for name, case in cases.items()}
    seen = {case for name, case in put.items() if case == cases[name]}
    found: dict[str, Case] = {}
    for name, case in put.items():
        if case is not None and (case == cases[name] or case not in seen):
            found[name] = case
            seen.add(case)
    return found


def put_to(subject: Any, case: Case) -> Case | None:
    """A case as a subject can be asked it; None if it claims no such thing."""
    put: Case | None = case
    for step in (_able, _with_bias, _with_heads, _of_one_input, _square, _masked, _without_key):
        put = None if put is None else step(put, subject)
    return put


def _able(case: Case, subject: Any) -> Case | None:
    """The case as it is, if the subject does what no redrawing can spare it."""
    scoring = case.config.scoring.claim
    able = not scoring or getattr(subject, scoring, False)
    able = able and (subject.pruned or case.config.num_heads * case.config.head_dim == case.config.num_hiddens)
    able = able and (not case.dropout or offers(subject, "with_mask"))
    able = able and (subject.live or not case.installed)  # files travel, and packages do not
    return case if able and (subject.empty or (case.batch and case.queries)) else None


def _with_bias(case: Case, subject: Any) -> Case | None:
    wanted = case.config.bias if subject.bias == "any" else subject.bias == "always"
    if case.score_bias and not wanted:
        return None  # its scores come from the biases
    return replace(case, config=replace(case.config, bias=wanted))


def _with_heads(case: Case, subject: Any) -> Case | None:
    """As many heads more as the subject asks for, each as wide as before; what was trained keeps its heads."""
    config, wanted = case.config, -(-case.config.num_heads // subject.heads_multiple_of) * subject.heads_multiple_of
    if wanted == config.num_heads or case.trained or case.installed:
        return case if wanted == config.num_heads else None
    fits = config.num_heads * config.head_dim == config.num_hiddens
    width = wanted * config.head_dim if fits else config.num_hiddens
    return replace(case, config=replace(config, num_heads=wanted, num_hiddens=width))


def _of_one_input(case: Case, subject: Any) -> Case | None:
    """One array as queries, keys and values: of one width, and as long as the keys, or as the batch where that was."""
    if subject.inputs != "self" or case.self_attention:
        return case
    if not case.queries:
        return None  # that would be no keys
    config, length = case.config, case.queries if case.queries == case.batch else case.keys
    width, lengths = max(config.query_size, config.key_size, config.value_size), case.valid_lens
    if lengths and isinstance(lengths[0], tuple):
        lengths = tuple(tuple(np.resize(row, length).tolist()) for row in lengths)
    config = replace(config, query_size=width, key_size=width, value_size=width)
    return replace(case, config=config, queries=length, keys=length, valid_lens=lengths, self_attention=True)


def _square(case: Case, subject: Any) -> Case:
    width = case.config.num_hiddens
    config = replace(case.config, query_size=width, key_size=width, value_size=width)
    return replace(case, config=config) if subject.square else case


def _masked(case: Case, subject: Any) -> Case | None:
    """The same mask in a form that the subject takes; or another mask that it takes, and all else the same."""
    takes = {*subject.masks, *(["causal"] if "lengths per query" in subject.masks else [])}
    if mask_of(case) in takes:
        return case
    same, others = _same_mask(case), _other_masks(case)
    for kind in ("lengths", "lengths per query"):
        if kind in takes and kind in same:
            return replace(case, valid_lens=same[kind])
    for kind in ("lengths", "causal", "none"):
        if kind in takes and kind in others:
            return replace(case, valid_lens=others[kind])
    return None


def mask_of(case: Case) -> str:
    """Which kind of mask a case has, as `Subject.masks` calls them."""
    lengths = case.valid_lens
    if lengths is None:
        return "none"
    if not lengths or not isinstance(lengths[0], tuple):
        return "lengths"
    return "causal" if lengths == _causal(case) else "lengths per query"


def _causal(case: Case) -> Lengths:
    return (tuple(range(1, case.queries + 1)),) * case.batch


def _same_mask(case: Case) -> dict[str, Lengths]:
    """The case's mask, by the kind of lengths that it can be written as."""
    lengths = (case.keys,) * case.batch if case.valid_lens is None else case.valid_lens
    if not case.batch or isinstance(lengths[0], tuple):
        return {}
    per_query = tuple((length,) * case.queries for length in lengths)
    return {"lengths": lengths, "lengths per query": per_query}


def _other_masks(case: Case) -> dict[str, Lengths]:
    """Masks that could stand in the place of the case's own."""
    masks: dict[str, Lengths] = {"none": None}
    if case.batch and 0 < case.queries <= case.keys:
        masks["causal"] = _causal(case)
        if mask_of(case) in ("causal", "lengths per query"):
            masks["lengths"] = tuple(row[-1] for row in case.valid_lens)  # type: ignore[index, union-attr]
    return masks


def _without_key(case: Case, subject: Any) -> Case:
    lengths = np.array(() if case.valid_lens is None else case.valid_lens)
    return replace(case, rows_without_key=subject.rows_without_key) if (lengths <= 0).any() else case


def masks_all(subject: Any, trial: Trial, scores: Expected) -> bool:
    """Whether every row's greatest valid score (of (batch, heads, queries, keys)) is one that the subject claims."""
    if subject.lowest_score is None:
        return True
    lengths = trial.lengths[:, None, :, None]
    valid = np.arange(trial.keys.shape[1]) < lengths
    greatest = np.where(valid, scores.value, -np.inf).max(axis=-1, initial=-np.inf)
    return not ((greatest < subject.lowest_score) & (lengths[..., 0] > 0)).any()


def in_words(subject: Any) -> tuple[str, ...]:
    """What a subject claims less than the most that there is by default, one phrase for each."""
    said = {
        ", ".join(subject.dtypes) + " only": not {*Subject.dtypes} <= {*subject.dtypes},
        "self-attention only": subject.inputs == "self",
        "square only": subject.square,
        f"heads a multiple of {subject.heads_multiple_of}": subject.heads_multiple_of > 1,
        "without biases": subject.bias == "never",
        "with biases": subject.bias == "always",
        **dict.fromkeys(_masks_in_words(set(subject.masks)), True),
        "no empty inputs": not subject.empty,
        f"attention weights {subject.attention_weights}": subject.attention_weights == "averaged",
        "no attention weights": subject.attention_weights == "none",
        "zeros where no key is valid": subject.rows_without_key == "zeros",
        "NaN where no key is valid": subject.rows_without_key == "nan",
        "rows without a valid key left out": subject.rows_without_key == "undefined",
        f"scores above {subject.lowest_score or 0:g}": subject.lowest_score is not None,
        "answers in files": not subject.live,
    }
    return tuple(words for words, is_so in said.items() if is_so)


def _masks_in_words(claimed: set[str]) -> list[str]:
    """Which masks are not claimed."""
    if len(claimed) == 1 and claimed <= {"none", "causal"}:
        return ["no masks"] if claimed == {"none"} else ["causal masks only"]
    if "lengths per query" in claimed:
        claimed = claimed | {"lengths", "causal", "none"}  # asked in that form
    words = {"none": "always a mask", "lengths": "no lengths", "lengths per query": "no lengths per query"}
    words |= {"causal": "no causal mask"}
    return [phrase for mask, phrase in words.items() if mask not in claimed]
