"""How often the tests of `systematic` alarm at right answers: `python -m shared_tests.studies.false_alarms --rounds 5`.

Both answers are the truth with an error that the oracle draws, from draws that the tests do not know: as large as
sigma, which is about twice what right layers make. For the spread the errors before are `APART` times smaller, which is
the most that it lets pass.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from shared_tests.cases.case import Case, Trial
from shared_tests.cases.table import CASES
from shared_tests.harness import oracle
from shared_tests.harness.questions import Questioned
from shared_tests.harness.rounding import DRAWS, Array, Rounded
from shared_tests.harness.subject import LISTS, as_subject
from shared_tests.studies.moving import Moves
from shared_tests.studies.recorded import Numbers, OfTrial, all_asked, as_answers
from shared_tests.studies.systematic import APART, Draws, Sums

LIMITS = (2, 3, 4, 5)
SUBJECT = as_subject(
    Questioned({"name": "right", "dtypes": LISTS["dtypes"], "additive": True, "methods": ["with_mask"]})
)
"""What claims all that there is."""


def scores(cases: Mapping[str, Case], rounds: int) -> dict[str, Array]:
    """The scores of "mean" and "spread", of every clause and dtype: of each round half as many as there are draws."""
    found: dict[str, list[float]] = {"mean": [], "spread": []}
    for number in range(rounds):
        sums = defaultdict[tuple[str, str, str, int], Sums](Sums)
        for one in all_asked(SUBJECT, dict(cases)):
            assert isinstance(one, OfTrial)
            for (test, clause, repeat), draws in _of_case(one, number):
                sums[test, clause, one.trial.dtype, repeat].add(draws)
        for (test, *_), gathered in sums.items():
            found[test].append(gathered.mean_score if test == "mean" else gathered.spread_score)
    return {test: np.array(values) for test, values in found.items()}


def _of_case(one: OfTrial, number: int) -> Iterator[tuple[tuple[str, str, int], Draws]]:
    """By test, clause and repeat: the arrays of a case."""
    truth, noise = one.expected(SUBJECT), _noise(one.trial, number)
    for repeat in range(DRAWS // 2):
        gathered = defaultdict[tuple[str, str, int], Draws](Draws)
        for array, expected in truth.items():
            first, second = noise[array].errors[repeat], noise[array].errors[repeat + DRAWS // 2]
            for test, share in (("mean", 1.0), ("spread", 1 / APART)):
                moves = _moves(expected, share * first, second, one.trial.dtype)
                gathered[test, one.clause(array), repeat].add(moves)
        yield from gathered.items()


def _noise(trial: Trial, number: int) -> Numbers:
    """The oracle's numbers with other draws: the name of a trial is what they are seeded with."""
    other = replace(trial, name=f"{trial.name}, round {number}")
    stages = oracle.forward(other)
    return as_answers(other, SUBJECT, stages, oracle.backward(other, stages))


def _moves(truth: Rounded, first: Array, second: Array, dtype: str) -> Moves:
    return Moves(truth.value + first, truth.value + second, truth, np.ones(first.shape, bool), dtype)


def main() -> None:
    """Prints how many scores are beyond each limit."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=1, help=f"each has {DRAWS // 2} comparisons of all cases")
    found = scores(CASES, parser.parse_args().rounds)
    for test, values in found.items():
        size = np.abs(values) if test == "mean" else values
        beyond = ", ".join(f"{int((size > limit).sum())} beyond {limit}" for limit in LIMITS)
        print(f"{test}: {values.size:,} scores, deviation {values.std():.2f}, greatest {size.max():.2f}: {beyond}")


if __name__ == "__main__":
    main()
