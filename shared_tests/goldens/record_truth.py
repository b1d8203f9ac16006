"""Freezes what the oracle gives for every case and training: truth.txt has digests, truth.safetensors the arrays.

Run again with `python -m shared_tests.goldens.record_truth` after a change of the oracle, the noise or the cases: the
diff of truth.txt shows which cases it changed, a line each. A test holds today's oracle to both files.

truth.txt: case and dtype, the digest of all values, and that of all sigma: every stage and gradient of a case; of a
training the loss and all parameters after every step. Both are rounded before, since the oracle of all dtypes but
float64 multiplies matrices by BLAS, whose last bits depend on the processor: a value to steps of 1/4 to 1/2 of its
sigma, sigma to 20 bits, six digits. A sigma is left out where the value is less than 2^-20 of it: such a number is 0
but for the oracle's own rounding, by whose sign its draws are told alike. float64 is computed in extended precision,
without BLAS and without the processor's own exponential (harness/elementary.py), so to the bit; where a processor has
no such precision, its digests are others. Measured on 2026-11-24 with numpy 2.4.6: under the kernels for Haswell,
Nehalem and Zen (OPENBLAS_CORETYPE) the bits are others in 88 of 92 cases and dtypes, these digests in none.

truth.safetensors: CASE/DTYPE/ARRAY, and the same with ", sigma", of the outputs, attention weights and gradients of
cases that are small: they tell how far the oracle has moved where a digest is another.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from shared_tests.cases.case import Case, draw
from shared_tests.cases.table import CASES
from shared_tests.harness.rounding import Array, Expected
from shared_tests.harness.training import RATES
from shared_tests.harness.truth import Oracle
from shared_tests.storage import write_arrays, write_bytes

FOLDER = Path(__file__).parent
DIGITS = 16
"""So many hexadecimal digits of a digest are kept."""
NO_NUMBER = 2.0**-20
"""A value smaller than this share of its sigma is 0."""
OFF = 0.1415926
SMALL = 3000
"""Cases with fewer numbers in all stages and gradients are stored in full."""
Truth = Mapping[str, Expected]


def truths() -> dict[str, Callable[[], Truth]]:
    """By case and dtype, and by training: what computes all that the oracle gives, by name."""
    found: dict[str, Callable[[], Truth]] = {}
    for name, case in CASES.items():
        found |= {f"{name}/{dtype}": partial(_of_case, name, case, dtype) for dtype in case.dtypes}
    for rule in RATES:
        found |= {f"training, {rule}/{dtype}": partial(_of_training, rule, dtype) for dtype in ("float64", "float32")}
    return found


def _of_case(name: str, case: Case, dtype: str) -> Truth:
    truth = Oracle().of(draw(name, case, dtype), gradients=True)
    return {**truth.stages, **{f"gradient of {x}": gradient for x, gradient in truth.gradients.items()}}


def _of_training(rule: str, dtype: str) -> Truth:
    steps = enumerate(Oracle().of_training(rule, dtype), 1)
    arrays = {step: {"loss": loss, **parameters} for step, (loss, parameters) in steps}
    return {f"{name} of step {step}": expected for step, of in arrays.items() for name, expected in of.items()}


def digest(truth: Truth) -> str:
    """Of the values, and of sigma, both rounded as the module says."""
    values, sigmas = hashlib.sha256(), hashlib.sha256()
    for name, expected in sorted(truth.items()):
        value, sigma = expected.value, expected.sigma.astype(np.float64)
        told = np.where(np.abs(value) >= NO_NUMBER * sigma, sigma, 0.0)
        for of, rounded in ((values, _in_steps(value, sigma)), (sigmas, _in_steps(told, told * 2.0**-18))):
            of.update(f"{name} {rounded.shape}".encode())
            of.update(rounded.tobytes())
    return f"{values.hexdigest()[:DIGITS]} {sigmas.hexdigest()[:DIGITS]}"


def _in_steps(numbers: Array, sizes: Array) -> Array:
    """Whole multiples of a power of two that is 1/4 to 1/2 of each size, or a little less; of size 0 the number itself.

    Both are set off from short binary fractions, so that what the oracle computes exactly lies at no edge of a step.
    """
    _, exponents = np.frexp(sizes * (1 - OFF))
    steps = np.rint(np.ldexp(numbers, np.where(sizes > 0, 2 - exponents, 0)) + OFF)
    return np.where(sizes > 0, steps, numbers).astype(np.float64) + 0.0  # 0 and -0 are one


def stored(truth: Truth) -> Iterator[tuple[str, Expected]]:
    """What is stored in full: nothing of a case that is not small."""
    if sum(expected.value.size for expected in truth.values()) < SMALL:
        names = ("output", "attention_weights")
        yield from ((x, y) for x, y in truth.items() if x in names or x.startswith("gradient of "))


def main(folder: Annotated[Path, typer.Option(help="Where the two files go.")] = FOLDER) -> None:
    """Write what the oracle gives today."""
    lines, arrays = [], {}
    for key, compute in truths().items():
        truth = compute()
        lines.append(f"{key}: {digest(truth)}")
        for name, expected in stored(truth):
            arrays[f"{key}/{name}"] = expected.value.astype(np.float64)
            arrays[f"{key}/{name}, sigma"] = expected.sigma.astype(np.float32)
    write_bytes(folder / "truth.txt", "\n".join([*lines, ""]).encode())
    write_arrays(folder / "truth.safetensors", arrays)


if __name__ == "__main__":
    typer.run(main)
