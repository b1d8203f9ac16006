"""What a port claims but refuses, or gives otherwise than it says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shared_tests.faults.domain import Domain
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe, without_a_head
from shared_tests.faults.variants import Faults, runs
from shared_tests.faults.words import Cause


def refused(port: Port, domain: Domain, found: Faults) -> Iterator[Cause]:
    """A cause for each claim that is not kept; none for what the faults that were found would refuse as well."""
    yield from _answers(port, domain)
    for fault, probe in _claimed(port, domain):
        if runs(found, probe):
            answer = port.ask(probe)
            given = answer["output"].dtype if answer else ""
            yield Cause(fault, port.errors.get(probe, f"answered in {given}"), probe.name)


def _answers(port: Port, domain: Domain) -> Iterator[Cause]:
    """Of what is answered: attention weights, and the dtype."""
    probe = domain.probe()
    answer = port.ask(probe)
    if answer is not None and "attention_weights" not in answer and port.subject.attention_weights != "none":
        yield Cause("attention-weights-missing", "no attention weights are returned", probe.name)
    for dtype in domain.dtypes:
        probe = domain.probe(dtype=dtype)
        answer = port.ask(probe)
        given = answer["output"].dtype if answer else np.dtype(_array(dtype))
        if given.itemsize > np.dtype(_array(dtype)).itemsize:
            yield Cause("dtype-promoted", f"{dtype} in, {given} out", probe.name)


def _claimed(port: Port, domain: Domain) -> Iterator[tuple[str, Probe]]:
    """What it claims and is not in its domain, by the id of the fault, and a probe that asks it."""
    one_x = port.subject.inputs == "self"
    if "one width" not in domain.widths and "one x" in domain.widths and not one_x:
        yield "one-input-only", domain.probe(widths="one width")
    elif "distinct widths" not in domain.widths and not one_x and not port.subject.square:
        yield "square-only", domain.probe(widths="distinct widths")
    biases = {"any": [False, True], "never": [False], "always": [True]}[port.subject.bias]
    yield from (("bias-refused", domain.probe(bias=bias)) for bias in biases if bias not in domain.biases)
    yield from (("lengths-refused", domain.probe(kind)) for kind in port.subject.masks if kind not in domain.kinds)
    if port.subject.pruned and port.ask(without_a_head(domain.probe())) is None:
        yield "pruned-refused", without_a_head(domain.probe())
    for dtype in port.subject.dtypes:
        if dtype not in domain.dtypes:
            yield "dtype-refused", domain.probe(dtype=dtype)


def _array(dtype: str) -> str:
    """The dtype of arrays that hold these numbers."""
    return "float32" if dtype == "bfloat16" else dtype
