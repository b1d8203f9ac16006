"""Functions, methods and classes, cut out of the sources of the three packages.

Sources are found and parsed, and nothing is imported: no framework need be installed.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shared_tests.frameworks import OURS

CALLS = frozenset({"forward", "call", "__call__"})
"""A layer's call by its names in the frameworks; in Keras it has two parts. Here all of it is `call`."""

Named = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Piece:
    """Lines of a source, without docstrings and without the indentation that they share."""

    file: str
    """Such as torch_impl/attention.py."""
    first: int
    last: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.first}"


def joined(pieces: Iterable[Piece]) -> str:
    """Pieces as one text, two blank lines apart, as functions stand in a file."""
    return "\n\n\n".join(piece.text for piece in pieces)


def find(package: str, name: str, only: Collection[str] | None = None) -> list[Piece]:
    """What a package calls `name`, such as "attention.masked_softmax" or "multihead.MultiHeadAttention.call".

    only: of a class, its first lines and these methods. Raises ValueError, in one line, for what is not there.
    """
    module, found = name.partition(".")[0], parsed(package, name)
    missing = [method for method in only or () if f"{name}.{method}" not in definitions(package)]
    if missing:
        raise ValueError(f"{package}: expected {name} to have {' and '.join(missing)}, found none")
    return [_cut(f"{package}/{module}.py", node, only) for node in found]


def parsed(package: str, name: str) -> list[Named]:
    """The same as `find`, as syntax trees."""
    module, _, qualified = name.partition(".")
    found = definitions(package).get(f"{module}.{_canonical(qualified)}")
    if found is None:
        near = _nearest(name, definitions(package))
        raise ValueError(f"{package}: expected a function, method or class called {name}, found none{near}")
    return found


def covered(package: str, name: str, only: Collection[str] | None = None) -> list[str]:
    """The names whose lines `find` gives: of a class, also its methods'."""
    methods = [found for found in definitions(package) if found.startswith(f"{name}.")]
    return [name, *(method for method in methods if only is None or method.rpartition(".")[2] in only)]


def called(name: str) -> list[str]:
    """What the packages have of that name, with module and class: "score" is three methods.

    Raises ValueError, in one line with the nearest names, if there is nothing.
    """
    ends = f".{_canonical(name)}"
    every = {found: None for package in OURS for found in definitions(package)}  # in order, each once
    found = [one for one in every if f".{one}".endswith(ends)]
    if not found:
        near = _nearest(name, every)
        raise ValueError(f"{name}: expected a function, method or class of the three packages, found none{near}")
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    """Names that are much like another, in words that end a sentence; empty if there are none."""
    short = {one.partition(".")[2]: one for one in known}
    close = difflib.get_close_matches(name, [*short, *(one.rpartition(".")[2] for one in short)])
    return f"; nearest: {', '.join(dict.fromkeys(close))}" if close else ""


@cache
def definitions(package: str) -> dict[str, list[Named]]:
    """Module and name -> functions, methods and classes of a package, in the order of its files."""
    found: dict[str, list[Named]] = {}
    for path in sorted(folder(package).glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, Named):
                found.setdefault(f"{path.stem}.{node.name}", []).append(node)
                for method in node.body if isinstance(node, ast.ClassDef) else ():
                    if isinstance(method, ast.FunctionDef):
                        found.setdefault(f"{path.stem}.{node.name}.{_canonical(method.name)}", []).append(method)
    return found


def folder(package: str) -> Path:
    """Where a package lies. Raises ValueError if it is nowhere."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{package}: expected a package among those that Python finds, found none")
    return Path(spec.origin).parent


def _canonical(name: str) -> str:
    """The name with a layer's call called `call`."""
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}call" if last in CALLS else name


def _cut(file: str, node: Named, only: Collection[str] | None) -> Piece:
    """A node's lines, less the docstrings of it and its methods, and less the methods that are not wanted."""
    package, _, name = file.partition("/")
    lines = (folder(package) / name).read_text().splitlines()
    dropped = _docstring(node)
    for method in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(method, ast.FunctionDef):
            wanted = only is None or _canonical(method.name) in only
            dropped |= _docstring(method) if wanted else {*range(_first(method), (method.end_lineno or 0) + 1)}
    kept: list[int] = []
    for number in range(_first(node), (node.end_lineno or 0) + 1):
        blank = not lines[number - 1]
        if number not in dropped and not (blank and (number - 1 in dropped or not lines[kept[-1] - 1])):
            kept.append(number)
    text = textwrap.dedent("\n".join(lines[number - 1] for number in kept)).rstrip("\n")
    return Piece(file, kept[0], kept[-1], text)


def _first(node: Named) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _docstring(node: Named) -> set[int]:
    """The numbers of its lines; none where it is all there is."""
    if ast.get_docstring(node) is None or len(node.body) == 1:
        return set()
    return {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
