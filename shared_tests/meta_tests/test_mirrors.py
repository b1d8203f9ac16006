"""The three packages are mirrors: the same files, names, order, arguments and docstrings."""

import ast
from pathlib import Path

import pytest

from shared_tests.frameworks import OURS

ROOT = Path(__file__).parents[2]
FILES = ["__init__.py", "attention.py", "checks.py", "fused.py", "multihead.py", "weights.py"]
EXTRAS = {
    "torch_impl": {"device", "dtype"},
    "jax_impl": {"rngs", "dtype", "param_dtype"},
    "tf_impl": {"seed", "training", "kwargs"},
}
"""Arguments that are a framework's idiom."""
IDIOMS = {
    "torch_impl": {"_masked_softmax", "extra_repr"},
    "jax_impl": set(),
    "tf_impl": {
        "_at_most",
        "_fold",
        "_map",
        "__call__",
        "build",
        "get_build_config",
        "compute_output_shape",
        "compute_output_spec",
        "get_config",
        "from_config",
    },
}
"""Methods that a framework's idiom asks for, and what it has no function of its own for (`jax.lax.map`)."""
CALL = {"torch_impl": "forward", "jax_impl": "__call__", "tf_impl": "call"}


def outline(package, name):
    """(qualified name, arguments, docstring) of all that a file defines, in order, less the idioms."""
    rows = []

    def walk(nodes, prefix):
        for node in nodes:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            if isinstance(node, ast.ClassDef):
                rows.append((prefix + node.name, None, ast.get_docstring(node)))
                walk(node.body, f"{prefix}{node.name}.")
            elif node.name not in IDIOMS[package] or node.name == CALL[package]:
                args = [*node.args.args, *node.args.kwonlyargs, *filter(None, [node.args.kwarg])]
                names = [arg.arg for arg in args if arg.arg not in EXTRAS[package]]
                call = "call" if node.name == CALL[package] and prefix else node.name
                # What a private function must say of its framework is its own.
                rows.append((prefix + call, names, None if call.startswith("_") else ast.get_docstring(node)))

    walk(ast.parse((ROOT / package / name).read_text()).body, "")
    return rows


@pytest.mark.parametrize("package", OURS)
def test_files_are_the_same(package):
    assert sorted(path.name for path in (ROOT / package).glob("*.py")) == FILES


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("package", OURS[1:])
def test_outline_is_the_same(package, name):
    ours = [row if row[0] != "_parameters" else (row[0], ["module"], row[2]) for row in outline(package, name)]
    # DotProductAttention and its like need no arguments of their own where the base class has them.
    assert ours == outline(OURS[0], name)


def test_checks_are_the_same_to_the_letter():
    first, *rest = ((ROOT / package / "checks.py").read_text() for package in OURS)
    assert [first, first] == rest


def test_surface_is_the_same(subjects):
    first, *rest = (subject.package.__all__ for subject in subjects)
    assert [first, first] == rest
    assert first == sorted(first)


@pytest.mark.parametrize("package", OURS)
def test_every_public_name_has_a_docstring(package):
    for name in FILES:
        for row, _, docstring in outline(package, name):
            if not any(part.startswith("_") for part in row.split(".")):
                assert docstring, f"{package}/{name}: {row}"


@pytest.mark.parametrize("package", OURS)
def test_files_can_be_read_in_one_sitting(package):
    for name in FILES:
        assert len((ROOT / package / name).read_text().splitlines()) <= 200
