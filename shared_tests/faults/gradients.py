"""Which fault explains the gradients of a port whose outputs are right."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from shared_tests.faults.catalogue import CATALOGUE
from shared_tests.faults.domain import Domain
from shared_tests.faults.port import Port
from shared_tests.faults.probes import Probe
from shared_tests.faults.search import Search
from shared_tests.faults.variants import Arrays, Faults, gradients_of
from shared_tests.faults.words import Cause, of_search
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
        try:
            found = _asked(port, probe)
        except (Exception, SystemExit) as error:
            return [*causes, Cause("crash", f"gradients: {in_words(error)}", probe.name)]
        if missing := [name for name in gradients_of(probe) if name not in found]:
            words = f"the gradients of {', '.join(missing)} are missing"
            causes += [Cause("gradient-missing", words, probe.name)] if not causes else []
        if "queries" in found:
            search.ask(probe, found)
    return causes + of_search(search, port)


def _asked(port: Port, probe: Probe) -> Arrays:
    trial = deepcopy(probe.trial)
    found = port.subject.gradients(port.build(trial), *trial.inputs, trial.cotangent)
    known = gradients_of(probe)
    return {name: np.array(array) for name, array in found.items() if array is not None and name in known}
