"""What this installation is: versions, devices, and settings that move numbers."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from shared_tests.releases import ABSENT, release_of

VARIABLES = re.compile(r"(ATEN|CUBLAS|CUDA|JAX|KERAS|KMP|MKL|NPY|NVIDIA|OMP|ONEDNN|OPENBLAS|TF|TORCH|XLA)_.*")
"""Environment variables that frameworks and their libraries listen to."""


def installation() -> dict[str, str]:
    """The machine and its processor, the release of every dependency, and the variables that are set."""
    found = {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", "processor": processor()}
    found |= versions()
    return found | {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)}


def versions() -> dict[str, str]:
    """The releases of Python, trihead and every dependency: what may be published, unlike the variables."""
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in requires("trihead") or []}
    return {"python": platform.python_version()} | {name: release_of(name) for name in sorted(names)}


def machine() -> dict[str, str]:
    """The date, the processor and its threads."""
    return {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "threads": str(os.cpu_count())}


def processor() -> str:
    """The processor's own name, where it can be read: libraries choose kernels by it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def settings(subject: Any) -> dict[str, str]:
    """The devices of one of the three, and its settings that move numbers."""
    return {f"{subject.name}: {name}": str(value) for name, value in subject.backend.settings().items()}


def changed_releases(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    """What of an installation is another; what is installed in one only stands in one line."""
    absent = {fact for fact, value in {**before, **after}.items() if ABSENT in (value, before.get(fact))}
    yield from (line for line in changes(before, after) if line.partition(": ")[0] not in absent)
    for when, facts in (("before", before), ("after", after)):
        if only := [fact for fact in sorted(absent) if facts.get(fact, ABSENT) != ABSENT]:
            yield f"installed only {when}: {', '.join(only)}"


def changes(before: Mapping[str, Any], after: Mapping[str, Any], start: str = "") -> Iterator[str]:
    """A line for each fact that is another."""
    for fact in {**before, **after}:
        old, new = before.get(fact, "not set"), after.get(fact, "not set")
        if old != new:
            yield f"{start}{fact}: {old} → {new}"
