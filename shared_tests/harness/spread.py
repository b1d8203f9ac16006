"""Subjects whose layers are on several devices: they answer from processes of their own, which are all asked the same.

How many devices a framework has is settled when it is loaded, and in PyTorch each device has a process. So a subject
here loads no framework: it starts its processes, and each has, with the framework, the subject that answers.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from shared_tests.cases.case import Config
from shared_tests.harness.errors import in_words
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject

SERVE = "from shared_tests.harness.spread import serve; serve()"


class Spread(Subject):
    """A subject of several devices. A model is a number, by which the processes know theirs."""

    dtypes = ("float64", "float32", "bfloat16", "float16")
    additive = True
    pruned = True
    answering: str
    """The class that answers in each process, as module:Class; it is made without arguments."""
    processes = 1
    variables: tuple[tuple[str, str], ...] = ()
    """The environment of the processes, beside what `torchrun` gives: who they are, and where they meet."""

    def __init__(self) -> None:
        """Starts the processes. Raises what making the class that answers raises."""
        meeting = {"WORLD_SIZE": str(self.processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        self._pipes: list[Connection] = []
        started = []
        for rank in range(self.processes):
            mine, theirs = Pipe()
            command = [sys.executable, "-c", SERVE, str(theirs.fileno()), self.answering]
            environment = os.environ | dict(self.variables) | meeting | {"RANK": str(rank)}
            started.append(subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()]))
            theirs.close()  # the other process has it: when that ends, so does the pipe
            self._pipes.append(mine)
        weakref.finalize(self, _end, self._pipes, started)
        self._heard()

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """What the method returns, in each process. Raises what it raises in any."""
        with suppress(BrokenPipeError):  # of a process that has ended, of which nothing will be heard
            for pipe in self._pipes:
                pipe.send((method, arguments))
        return self._heard()

    def _heard(self) -> list[Any]:
        try:
            heard = [pipe.recv() for pipe in self._pipes]
        except (EOFError, ConnectionResetError):
            raise OSError(f"{self.name}: expected an answer, got none: a process ended") from None
        for answer in heard:
            if isinstance(answer, Exception):
                raise answer
        return heard

    def run(self, file: str, function: str, *arguments: Any) -> list[Any]:
        """What function(subject, *arguments) of a Python file returns, in each process."""
        return self.ask("run", file, function, *arguments)

    def keep_programs(self, folder: Path) -> None:
        """Keeps what the framework compiles in a folder, for the next process."""
        self.ask("keep_programs", folder)

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> int:
        """The number of a layer with these parameters, spread over the devices."""
        number: int = self.ask("build", config, dict(weights), dtype)[0]
        return number

    def forward(
        self, model: int, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """The output and the attention weights of all heads."""
        answer: tuple[Array, Array] = self.ask("forward", model, queries, keys, values, valid_lens)[0]
        return answer

    def forward_alone(self, model: int, *inputs: Array | None) -> Any:
        """The output of a call that asks for no weights."""
        return self.ask("forward_alone", model, *inputs)[0]

    def gradients(self, model: int, *inputs: Array | None) -> Any:
        """As `Implementation.gradients`, whole arrays."""
        return self.ask("gradients", model, *inputs)[0]

    def export_weights(self, model: int) -> Any:
        """The canonical dict, of whole arrays."""
        return self.ask("export_weights", model)[0]

    def train(self, *arguments: Any) -> Iterator[tuple[float, dict[str, Array]]]:
        """As `Implementation.train`."""
        yield from self.ask("train", *arguments)[0]


class Answering:
    """What a process does: it asks the subject that answers, and keeps the models that were built."""

    def __init__(self, subject: Any) -> None:
        self.subject = subject
        self.models: list[Any] = []

    def answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """What the method returns: of this class, of the subject, or of the subject for a model."""
        if hasattr(self, f"_{method}"):
            return getattr(self, f"_{method}")(*arguments)
        model, *inputs = arguments
        return getattr(self.subject, method)(self.models[model], *inputs)

    def _build(self, *arguments: Any) -> int:
        self.models.append(self.subject.build(*arguments))
        return len(self.models) - 1

    def _train(self, *arguments: Any) -> list[Any]:
        return list(self.subject.train(*arguments))

    def _run(self, file: str, function: str, *arguments: Any) -> Any:
        return runpy.run_path(file)[function](self.subject, *arguments)

    def _keep_programs(self, folder: Path) -> None:
        self.subject.backend.keep_programs(folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _end(pipes: list[Connection], started: list[subprocess.Popen[bytes]]) -> None:
    for pipe in pipes:
        pipe.close()  # which ends the process
    for process in started:
        process.wait()


def serve() -> None:
    """A process: answers what it is asked until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, and ends it
    descriptor, answering = sys.argv[1:]
    pipe = Connection(int(descriptor))
    module, _, name = answering.partition(":")
    with suppress(EOFError, OSError):
        try:
            subject = Answering(getattr(importlib.import_module(module), name)())
        except Exception as error:
            return pipe.send(error)
        pipe.send(None)
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send(subject.answer(method, arguments))
            except Exception as error:
                _tell(pipe, error)


def _tell(pipe: Connection, error: Exception) -> None:
    try:
        pipe.send(error)
    except Exception:  # some cannot be sent
        pipe.send(RuntimeError(in_words(error)))
