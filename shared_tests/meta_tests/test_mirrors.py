"""The three packages are mirrors: the same files, names, order, arguments, shapes and docstrings."""

import ast
import re
from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS, OURS

ROOT = Path(__file__).parents[2]
FILES = [
    "__init__.py",
    "attention.py",
    "checks.py",
    "fused.py",
    "heads.py",
    "multihead.py",
    "parallel.py",
    "weights.py",
]
ALIASES = {"Lengths": "batch | batch queries", "Mask": "batch keys"}
"""Names for annotations, and the shapes that they stand for."""


def tree(framework, name):
    return ast.parse((ROOT / framework.package / name).read_text())


def is_public(name):
    return not name.startswith("_") or name in ("__init__", "__call__")


def shapes(annotation):
    """The shapes in an annotation, in order."""
    if annotation is None:
        return []
    names = [node for node in ast.walk(annotation) if isinstance(node, (ast.Constant, ast.Name))]
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    found = [node.value if isinstance(node, ast.Constant) else ALIASES.get(node.id) for node in names]
    return [shape for shape in found if isinstance(shape, str)]


def prose(docstring, framework):
    """A docstring without its example, and without the lines on arguments that are idiom."""
    text = (docstring or "").split(">>>")[0].rstrip()
    lines = [line for line in text.splitlines() if line.split(":")[0].strip() not in framework.arguments]
    return "\n".join(lines)


def answers(docstring):
    """What the example of a docstring prints."""
    _, *example = re.split(r"^>>>", docstring or "", flags=re.MULTILINE)
    return [line for lines in example for line in lines.splitlines()[1:] if not line.startswith("...")]


def signature(node, framework):
    """(argument, shapes, whether it has a default) of every argument that is no idiom, and the shapes returned."""
    defaults = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults + node.args.kw_defaults
    pairs = zip([*node.args.args, *node.args.kwonlyargs], defaults, strict=True)
    rows = [(arg.arg, shapes(arg.annotation), default is None) for arg, default in pairs]
    return [row for row in rows if row[0] not in framework.arguments], shapes(node.returns)


def outline(framework, name):
    """All that a file defines, in order, less the idioms; of what is private, the name."""
    rows = []

    def is_idiom(node, prefix):
        return framework.functions & {node.name, prefix + node.name}

    def walk(nodes, prefix):
        for node in nodes:
            called = prefix and getattr(node, "name", "") == framework.call
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or (is_idiom(node, prefix) and not called):
                continue
            if isinstance(node, ast.ClassDef):
                text = ast.get_docstring(node)
                rows.append((prefix + node.name, prose(text, framework), answers(text)))
                walk(node.body, f"{prefix}{node.name}.")
            elif not is_public(node.name):
                rows.append((prefix + node.name,))
            else:
                text = ast.get_docstring(node)
                about = signature(node, framework), prose(text, framework), answers(text)
                rows.append((prefix + ("call" if called else node.name), *about))

    walk(tree(framework, name).body, "")
    return rows


@pytest.mark.parametrize("package", OURS)
def test_files_are_the_same(package):
    assert sorted(path.name for path in (ROOT / package).iterdir() if path.is_file()) == sorted([*FILES, "py.typed"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("framework", FRAMEWORKS[1:], ids=OURS[1:])
def test_outline_is_the_same(framework, name):
    assert outline(framework, name) == outline(FRAMEWORKS[0], name)


def test_checks_are_the_same_to_the_letter():
    first, *rest = ((ROOT / package / "checks.py").read_text() for package in OURS)
    assert [first, first] == rest


def test_surface_is_the_same(subjects):
    first, *rest = (subject.package.__all__ for subject in subjects)
    assert [first, first] == rest
    assert first == sorted(first)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=OURS)
def test_public_signatures_are_whole(framework, name):
    """Every argument and result has its type, and every array its shape; Keras names what Keras calls."""
    body = tree(framework, name).body
    methods = [node for kind in body if isinstance(kind, ast.ClassDef) for node in kind.body]
    for node in body + methods:
        if not isinstance(node, ast.FunctionDef) or not is_public(node.name) or node.name in framework.functions:
            continue
        arguments = [arg for arg in [*node.args.args, *node.args.kwonlyargs] if arg.arg != "self"]
        assert all(arg.annotation for arg in arguments), f"{name}: {node.name}"
        assert node.returns, f"{name}: {node.name}"
        for arg in arguments:
            if arg.arg in ("x", "scores", "queries", "keys", "values", "valid_lens") and name != "checks.py":
                assert shapes(arg.annotation), f"{name}: {node.name}: {arg.arg}"


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=OURS)
def test_public_docstrings_have_sections_and_an_example(framework):
    """Every public function and class says what it takes, and shows a call; a method says what it takes."""
    package, seen = framework.package, set()
    for name in FILES[1:]:
        for node in tree(framework, name).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and f'"{node.name}"' in exported(package):
                docstring = ast.get_docstring(node)
                assert "Args:" in docstring, node.name
                assert ">>>" in docstring, node.name
                seen.add(node.name)
    assert len(seen) == exported(package).count('    "')


def exported(package):
    return (ROOT / package / "__init__.py").read_text().split("__all__")[1]


@pytest.mark.parametrize("package", OURS)
def test_files_can_be_read_in_one_sitting(package):
    """At most 190 lines beside the docstrings."""
    for name in FILES:
        text = (ROOT / package / name).read_text()
        documented = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        strings = [node.body[0] for node in documented if ast.get_docstring(node)]
        docstrings = sum(node.end_lineno - node.lineno + 1 for node in strings)
        assert len(text.splitlines()) - docstrings <= 190, name
