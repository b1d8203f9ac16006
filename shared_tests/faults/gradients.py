"""Which fault explains the gradients of a port whose outputs are right."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import numpy as np

from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.faults.domain import Domain
from shared_tests.faults.layer import PROJECTIONS
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe
from shared_tests.faults.search import Search
from shared_tests.faults.variants import GRADIENT, Arrays, Faults, gradients_of
from shared_tests.faults.words import Cause, of_search
from shared_tests.harness.known import known_differences
from shared_tests.harness.subject import in_words, offers

VARIANTS = [fault for fault in CATALOGUE if fault.variant and fault.kind == "gradients"]


def of_gradients(port: Port, domain: Domain, base: Faults) -> list[Cause]:
    """What is wrong with the gradients, if they are offered."""
    if not offers(port.subject, "gradients"):
        return []
    causes: list[Cause] = []
    search = Search(VARIANTS, base)
    for dtype in domain.dtypes:
        probe = domain.probe(dtype=dtype)
        excused = _excused(port, dtype, gradients_of(probe))
        try:
            found = _asked(port, probe)
        except (Exception, SystemExit) as error:
            return [*causes, Cause("crash", f"gradients: {in_words(error)}", probe.name)]
        if missing := [name for name in gradients_of(probe) if name not in found and name not in excused]:
            words = f"the {', '.join(missing)} are missing"
            causes += [Cause("gradient-missing", words, probe.name)] if not causes else []
        search.ask(probe, {name: array for name, array in found.items() if name not in excused})
    return causes + of_search(search, port)


def _asked(port: Port, probe: Probe) -> Arrays:
    trial = deepcopy(probe.trial)
    found = port.subject.gradients(port.build(trial), *trial.inputs, trial.cotangent)
    owed = gradients_of(probe)
    given = {GRADIENT + name: np.array(array) for name, array in found.items() if array is not None}
    return {name: array for name, array in given.items() if name in owed}


def _excused(port: Port, dtype: str, names: Iterable[str]) -> set[str]:
    """What is a known difference of a framework's kernels, or has no meaning of its own where one array is given."""
    known = [
        e for e in known_differences() if e.subject == port.subject.name and e.dtype in ("any", dtype) and e.counts
    ]
    excused = {name for name in names for e in known if e.clause in ("4.1", "4.2") and name.endswith(e.what)}
    return excused | ({GRADIENT + x for x in PROJECTIONS} if port.subject.inputs == "self" else set())
