"""What this installation is: versions, devices, and settings that move numbers."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

VARIABLES = re.compile(r"(OMP|MKL|OPENBLAS|KMP|XLA|JAX|TF|TORCH|KERAS|NVIDIA|CUDA)_.*")
"""Environment variables that frameworks and their libraries listen to."""


def installation() -> dict[str, str]:
    """The machine and its processor, the release of every dependency, and the variables that are set."""
    found = {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", "processor": processor()}
    found |= versions()
    return found | {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)}


def versions() -> dict[str, str]:
    """The releases of Python, trihead and every dependency: what may be published, unlike the variables."""
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in requires("trihead") or []}
    return {"python": platform.python_version()} | {name: _version(name) for name in sorted(names)}


def machine() -> dict[str, str]:
    """The date, the processor and its threads."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": models[0] if models else platform.processor(),
        "threads": str(os.cpu_count()),
    }


def processor() -> str:
    """The processor's own name, where it can be read: libraries choose kernels by it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def settings(subject: Any) -> dict[str, str]:
    """The devices of one of the three, and its settings that move numbers."""
    return {f"{subject.name}: {name}": str(value) for name, value in subject.backend.settings().items()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
