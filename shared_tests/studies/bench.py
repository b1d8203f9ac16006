"""The benchmark: ours and the framework's own layer, side by side in one process, and the memory each adds in its own.

A time is the second of two calls in a row, so that none pays for the memory its neighbour left; rounds are
interleaved, and a figure is their median. Limits stand beside: the framework's own rate of matrix products.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.cases.case import Config
from shared_tests.frameworks import FRAMEWORKS
from shared_tests.harness.backend import Backend
from shared_tests.harness.find import find_layer, place

PEERS = {framework.package: framework.peer for framework in FRAMEWORKS}
"""Ours, and the framework's own layer."""
CONTESTANTS = ("materialized", "fused", "builtin, weights", "builtin")
"""Ours that returns its attention weights, ours fused, and the framework's own layer with weights and without."""
STEPS = ("forward", "training")
PRODUCT = 2048
"""The side of the square matrices whose product is the limit."""
BYTES_HELD = 4 * 4
"""Per attention weight: what a layer that holds them needs, some four arrays of float32."""


@dataclass(frozen=True)
class Shape:
    """Self attention, without biases; the lengths of the batch run from half to all of `length`."""

    batch: int
    length: int
    hidden: int
    heads: int

    @property
    def config(self) -> Config:
        return Config(self.hidden, self.hidden, self.hidden, self.hidden, self.heads)

    @property
    def products(self) -> float:
        """Floating-point operations of the forward pass in matrix products, of masked keys too."""
        return self.batch * self.length * self.hidden * (8.0 * self.hidden + 4.0 * self.length)

    @property
    def attention_weights(self) -> int:
        """How many there are."""
        return self.batch * self.heads * self.length**2

    @property
    def valid_lens(self) -> np.ndarray[Any, Any]:
        return np.linspace(self.length // 2, self.length, self.batch + 1)[1:].astype(np.int64)

    def __str__(self) -> str:
        return f"({self.batch}, {self.length}, {self.hidden}, {self.heads})"


SHAPES = (Shape(2, 64, 100, 5), Shape(8, 512, 512, 8), Shape(32, 128, 768, 12), Shape(1, 4096, 512, 8))
SWEEP = tuple(Shape(1, length, 512, 8) for length in (512, 1024, 2048, 4096, 8192, 16384))


@dataclass(frozen=True)
class Time:
    """Milliseconds of one contestant; quartiles are the spread. share: of the framework's own product rate."""

    subject: str
    shape: Shape
    step: str
    contestant: str
    median: float
    quartiles: tuple[float, float]
    ratio: float | None
    share: float

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        figures = f"{self.median:.3g}", f"{self.quartiles[0]:.3g}–{self.quartiles[1]:.3g}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.subject, str(self.shape), self.step, self.contestant, *figures, ratio, f"{self.share:.2f}"


@dataclass(frozen=True)
class Memory:
    """Megabytes that a contestant's first call adds at its peak to what the process had."""

    subject: str
    shape: Shape
    step: str
    contestant: str
    megabytes: float

    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        return self.subject, str(self.shape), f"{self.step}, memory", self.contestant, f"{self.megabytes:,.0f} MB"


@dataclass(frozen=True)
class Job:
    """Something to measure; contestant: empty for the time of all."""

    subject: str
    shape: Shape
    step: str
    contestant: str = ""
    device: str | None = None

    def __str__(self) -> str:
        return f"{self.subject} {self.shape} {self.step} {self.contestant and f'memory of {self.contestant}'}"

    def run(self, rounds: int) -> list[Time | Memory]:
        """Measures it."""
        if self.contestant:
            return [memory(self.subject, self.contestant, self.shape, self.step)]
        return list(times(self.subject, self.shape, self.step, rounds, self.device))


def jobs(names: Sequence[str], sweep: bool, device: str | None = None) -> list[Job]:
    """All there is to measure; memory is that of the host, so on a device it is not measured."""
    shapes = [*SHAPES, *(shape for shape in SWEEP if sweep and shape not in SHAPES)]
    found = [
        Job(name, shape, step, device=device)
        for shape in shapes
        for step in STEPS
        if step == "forward" or shape in SHAPES
        for name in names
    ]
    if sweep and device is None:
        wanted = [(shape, c) for shape in SWEEP for c in CONTESTANTS if fits(shape, c)]
        found += [Job(name, shape, "forward", contestant) for shape, contestant in wanted for name in names]
    return found


def fits(shape: Shape, contestant: str, step: str = "forward") -> bool:
    """Whether this machine's memory is enough, half of it left to others."""
    held = shape.attention_weights * BYTES_HELD * (2 if step == "training" else 1)
    return contestant == "fused" or held < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def prepare(name: str, contestant: str, shape: Shape, step: str, device: str | None = None) -> Callable[[], None]:
    """The call that is timed."""
    subject = find_layer(PEERS[name] if contestant.startswith("builtin") else name)
    place(subject, device)
    if contestant.startswith("builtin"):
        layer = subject.make(shape.hidden, shape.heads)
    else:
        attention = subject.make("FusedDotProductAttention", 0.0) if contestant == "fused" else None
        layer = subject.make("MultiHeadAttention", **shape.config, dropout=0.0, attention=attention)
    x = np.random.default_rng(0).normal(size=(shape.batch, shape.length, shape.hidden)).astype(np.float32)
    need_weights = contestant in ("materialized", "builtin, weights") and step == "forward"
    with subject.backend.numbers("float32"):
        call = subject.backend.timed(layer, x, shape.valid_lens, need_weights, step == "training")
    return partial(_on_device, subject.backend, call) if device is not None else call


def _on_device(backend: Backend, call: Callable[[], None]) -> None:
    with backend.numbers("float32"):
        call()


def times(name: str, shape: Shape, step: str, rounds: int, device: str | None = None) -> Iterator[Time]:
    """Every contestant's time, from interleaved rounds. Training asks for no weights, so builtin is one."""
    wanted = [c for c in CONTESTANTS if fits(shape, c, step) and not (step == "training" and c == "builtin, weights")]
    calls = {contestant: prepare(name, contestant, shape, step, device) for contestant in wanted}
    subject = find_layer(name)
    place(subject, device)
    backend = subject.backend
    with backend.numbers("float32"):
        calls["product"] = partial(_on_device, backend, backend.product(PRODUCT))
    for call in calls.values():
        call()
    repeats = min(max(round(2e9 / shape.products), 1), 200)  # a call far below a millisecond is timed many at once
    took: dict[str, list[float]] = {contestant: [] for contestant in calls}
    for _ in range(rounds):
        for contestant, call in calls.items():
            took[contestant].append(1000 * seconds(call, 1 if contestant == "product" else repeats))
    medians = {contestant: float(np.median(each)) for contestant, each in took.items()}
    rate = 2.0 * PRODUCT**3 / medians["product"]
    for contestant in wanted:
        peer = medians.get("builtin, weights" if contestant == "materialized" and step == "forward" else "builtin")
        low, high = np.percentile(took[contestant], [25, 75])
        yield Time(
            subject=name,
            shape=shape,
            step=step,
            contestant=contestant,
            median=medians[contestant],
            quartiles=(float(low), float(high)),
            ratio=None if peer is None or contestant.startswith("builtin") else medians[contestant] / peer,
            share=shape.products * (3 if step == "training" else 1) / medians[contestant] / rate,
        )


def seconds(call: Callable[[], None], repeats: int) -> float:
    """The mean time of a call, after one that is not counted."""
    call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def memory(name: str, contestant: str, shape: Shape, step: str) -> Memory:
    """The peak that a first call adds, measured in a process of its own."""
    arguments = json.dumps([name, contestant, step, *asdict(shape).values()])
    command = [sys.executable, "-m", "shared_tests.studies.bench", arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"bench: expected {name} {contestant} {shape} to run, got: {done.stderr.strip()[-200:]}")
    return Memory(name, shape, step, contestant, float(done.stdout.split()[-1]))


def _peak(name: str, contestant: str, step: str, *sizes: int) -> float:
    prepare(name, contestant, Shape(1, 16, *sizes[2:]), step)()  # libraries are loaded
    call = prepare(name, contestant, Shape(*sizes), step)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts over
    call()
    return _status("VmHWM") - before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def as_json(found: Sequence[Time | Memory], facts: dict[str, str]) -> dict[str, Any]:
    """All figures, for a machine to read."""
    return {
        "facts": facts,
        "times": [asdict(one) for one in found if isinstance(one, Time)],
        "memory": [asdict(one) for one in found if isinstance(one, Memory)],
    }


def as_markdown(found: Sequence[Time | Memory], facts: dict[str, str]) -> str:
    """The results page."""
    times, memories = [t for t in found if isinstance(t, Time)], [m for m in found if isinstance(m, Memory)]
    lines = [
        "# Benchmarks",
        "",
        "Written by `trihead bench --page`; `make bench` writes it again. "
        + ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        "Self attention in float32, without biases, shape (batch, length, hidden, heads); the lengths of the batch run",
        "from half to all of it. *materialized* returns its attention weights, *fused* never holds",
        "them; *builtin* is the framework's own",
        "layer: `nn.MultiheadAttention` (eager, as ours), `nnx.MultiHeadAttention` (under `jax.jit`, as ours) or",
        "`keras.layers.MultiHeadAttention` (under `tf.function`, as ours). Milliseconds are medians of interleaved",
        "rounds, quartiles in parentheses. *ratio*: to builtin (materialized, forward: to builtin with weights).",
        f"*share*: of the rate of the framework's own product of matrices of side {PRODUCT}; the products of masked",
        "keys count, and a backward pass as twice the forward. *training*: forward and backward.",
        "",
    ]
    for name in PEERS:
        rows = [t for t in times if t.subject == name]
        lines += [f"## {name}", "", "| shape | step | layer | ms | ratio | share |", "|---|---|---|---|---|---|"]
        for t in rows:
            _, size, step, layer, median, quartiles, ratio, share = t.cells()
            lines.append(f"| {size} | {step} | {layer} | {median} ({quartiles}) | {ratio} | {share} |")
        lines.append("")
    lines += ["## Memory", "", "Megabytes that a first forward call adds at its peak, in a process of its own.", ""]
    lines += ["| shape | subject | " + " | ".join(CONTESTANTS) + " |", "|---" * (2 + len(CONTESTANTS)) + "|"]
    for shape in dict.fromkeys(m.shape for m in memories):
        for name in PEERS:
            of = {m.contestant: f"{m.megabytes:,.0f}" for m in memories if (m.shape, m.subject) == (shape, name)}
            lines.append(f"| {shape} | {name} | " + " | ".join(of.get(c, "not run") for c in CONTESTANTS) + " |")
    return "\n".join(lines) + "\n\n*not run*: would need more than half of this machine's memory.\n"


if __name__ == "__main__":
    print(_peak(*json.loads(sys.argv[1])))
