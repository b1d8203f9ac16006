"""Every fault there is: an entry in one of these lists is planted, asked about in the tests, and tried by diagnosis."""

from __future__ import annotations

from shared_tests.faults.fault import Fault
from shared_tests.faults.of_heads import HEADS, SCALE
from shared_tests.faults.of_masks import MASKS
from shared_tests.faults.of_parameters import PARAMETERS
from shared_tests.faults.of_precision import PRECISION
from shared_tests.faults.of_protocol import GRADIENTS, PROTOCOL
from shared_tests.faults.of_softmax import ROWS, SOFTMAX

CATALOGUE: list[Fault] = [
    *PARAMETERS, *HEADS, *SCALE, *MASKS, *ROWS, *SOFTMAX, *PRECISION, *PROTOCOL, *GRADIENTS,
]  # fmt: skip


def named(name: str) -> Fault:
    """The fault that is printed so, or the first of that id."""
    for fault in CATALOGUE:
        if name in (str(fault), fault.id):
            return fault
    raise ValueError(f"fault: expected one of the catalogue, got {name}")
