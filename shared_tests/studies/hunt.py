"""A hunt for false alarms: random cases over the whole domain, judged on layers that are right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shared_tests.cases.case import Case, Config, Trial, draw
from shared_tests.harness import oracle
from shared_tests.harness.asking import ask, ask_gradients
from shared_tests.harness.compare import within_gate
from shared_tests.harness.known import Finding, known_differences
from shared_tests.harness.rounding import GATE, Array, Rounded
from shared_tests.harness.scoring import Additive, DotProduct
from shared_tests.harness.subject import claims, offers

DTYPES = ("float64",) * 9 + ("float32",) * 9 + ("bfloat16", "float16")
SCORE_NOISE = 0.05
"""The largest sigma of a score for which first order is enough: 8 sigma of it change an attention weight by a third."""
SCALES = 10
"""How many cases share their sizes: a framework that compiles does so once for them."""
ELEMENTS = 150_000
"""The most features of additive scoring, or scores, in one case: 64 draws of them are 77 MB."""


@dataclass
class Tally:
    """Of one subject and quantity."""

    cases: int = 0
    elements: int = 0
    worst: float = 0.0
    beyond: list[str] = field(default_factory=list)
    known: int = 0


@dataclass
class Hunt:
    """What was found so far: tallies by subject, dtype and quantity, and how many cases were outside the domain."""

    tallies: dict[tuple[str, str, str], Tally] = field(default_factory=dict)
    cases: int = 0
    outside: int = 0

    @property
    def holds(self) -> bool:
        return not any(tally.beyond for tally in self.tallies.values())


def hunt(
    subjects: Sequence[Any],
    seconds: float,
    seed: int,
    advance: Callable[[Hunt], None] = lambda _: None,
    cases: int | None = None,
) -> Hunt:
    """Judges random cases for so many seconds, or so many cases; ends early, with what it has, on Ctrl-C."""
    found, random, end = Hunt(), np.random.default_rng(seed), time.monotonic() + seconds
    try:
        for case, dtype in _cases(random):
            if time.monotonic() >= end or found.cases == cases:
                break
            found.cases += 1
            _judge(subjects, draw(f"hunt {seed}, {found.cases}", case, dtype), case, found)
            advance(found)
    except KeyboardInterrupt:
        pass
    return found


def _cases(random: np.random.Generator) -> Iterator[tuple[Case, str]]:
    """Cases without end, each with a dtype: for sizes, one scale after another."""
    while True:
        case, dtype = _sizes(random), str(random.choice(DTYPES))
        kind, dropout = str(random.choice(["none", "entry", "query", "causal"])), random.choice([0, 0, 0, 0, 0.1, 0.5])
        for _ in range(SCALES):
            spread = float(10 ** random.uniform(-4, np.log10(50)))
            yield (
                replace(
                    case,
                    valid_lens=_lengths(random, kind, case),
                    spread=spread,
                    mean=spread * float(random.choice([0, 0, 0, 0.3, 1, 10, 100])),
                    gain=float(10 ** random.uniform(-1, 0.6)),
                    dropout=float(dropout),
                ),
                dtype,
            )


def _sizes(random: np.random.Generator) -> Case:
    """Sizes and a scoring function, each from the whole of its range."""
    heads, head_dim = int(random.integers(1, 9)), _size(random, 64)
    free = random.random() < 0.2  # of the rule that the heads make up the hidden width
    config = Config(
        key_size=_size(random, 96),
        query_size=_size(random, 96),
        value_size=_size(random, 96),
        num_hiddens=_size(random, 96) if free else heads * head_dim,
        num_heads=heads,
        bias=bool(random.random() < 0.5),
        head_dim=head_dim,
    )
    batch, queries, keys = int(random.integers(1, 5)), _size(random, 64), _size(random, 64)
    if random.random() < 0.1:
        long, short = int(random.integers(65, 513)), _size(random, 8)
        batch, queries, keys = (1, long, short) if random.random() < 0.5 else (1, short, long)
    width = _size(random, 64) if random.random() < 0.25 else 0
    while batch * heads * queries * keys * max(width, 1) > ELEMENTS:
        queries, keys = max(queries // 2, 1), max(keys // 2, 1)
    return Case(replace(config, scoring=Additive(width)) if width else config, batch, queries, keys)


def _size(random: np.random.Generator, most: int) -> int:
    """A size of 1 to `most`, small ones as often as large ones."""
    return int(np.exp(random.uniform(0, np.log(most + 0.99))))


def _lengths(random: np.random.Generator, kind: str, case: Case) -> Any:
    """None, by batch entry, by query, or 1, 2, 3, … by query: from none at all to more than there are keys."""
    if kind == "none":
        return None
    if kind == "causal":
        return (tuple(range(1, case.queries + 1)),) * case.batch
    if kind == "entry":
        return tuple(random.integers(-1, case.keys + 2, case.batch).tolist())
    return tuple(map(tuple, random.integers(-1, case.keys + 2, (case.batch, case.queries)).tolist()))


def _judge(subjects: Sequence[Any], trial: Trial, case: Case, found: Hunt) -> None:
    stages = oracle.forward(trial)
    if not stages["scores"].sigma.max(initial=0.0) <= SCORE_NOISE:
        found.outside += 1
        return
    gradients = oracle.backward(trial, stages)
    for subject in subjects:
        if claims(subject, case, trial.dtype):
            for quantity, what, actual, truth in _answers(subject, trial, stages, gradients):
                _count(found, (subject.name, trial.dtype, quantity), what, actual, truth, trial, case)


def _answers(
    subject: Any, trial: Trial, stages: oracle.Stages, gradients: dict[str, Rounded]
) -> Iterator[tuple[str, str, Array, Rounded]]:
    """(quantity, what it is of, what came, what was expected)."""
    model = subject.build(trial.config, trial.parameters, trial.dtype)
    model = model if trial.keep is None else subject.with_mask(model, trial.keep)
    answer = ask(subject, model, trial)
    yield "output", "", answer.output, stages["output"]
    yield "attention weights", "", answer.attention_weights, stages["attention_weights"]
    if offers(subject, "gradients"):
        yield from _gradients("gradients", ask_gradients(subject, model, trial), gradients)
    if offers(subject, "fused") and isinstance(trial.config.scoring, DotProduct) and trial.keep is None:
        model = subject.fused(trial.config, trial.parameters, trial.dtype)
        yield "fused output", "", subject.backend.run(model[0], *trial.inputs, dtype=trial.dtype), stages["output"]
        yield from _gradients("fused gradients", ask_gradients(subject, model, trial), gradients)


def _gradients(
    quantity: str, actual: dict[str, Array], expected: dict[str, Rounded]
) -> Iterator[tuple[str, str, Array, Rounded]]:
    for what, truth in expected.items():
        yield quantity, what, actual[what], truth


def _count(
    found: Hunt, key: tuple[str, str, str], what: str, actual: Array, truth: Rounded, trial: Trial, case: Case
) -> None:
    subject, dtype, quantity = key
    verdict = replace(within_gate(actual, truth), what=what)
    clauses = ("4.2", "9.1") if quantity == "fused gradients" else ("4.2",)
    asked = [Finding(clause, subject, trial.name, dtype, verdict) for clause in clauses]
    tally = found.tallies.setdefault(key, Tally())
    tally.cases += 1
    tally.elements += verdict.compared
    if verdict.failed and any(e.concerns(f) for e in known_differences() for f in asked):
        tally.known += verdict.failed
        return
    tally.worst = max(tally.worst, verdict.worst or 0.0)
    if (verdict.worst or 0.0) > GATE or verdict.failed:
        tally.beyond.append(f'{what}: {verdict.worst}σ: {verdict.note}\n    "{trial.name}": {case!r},')
