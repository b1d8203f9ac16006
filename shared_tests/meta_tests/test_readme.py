"""The README shows what the sources are."""

import ast
from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS
from shared_tests.harness.clauses import CLAUSES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def body(package, function):
    """A function's statements as the source has them, less its docstring and comments."""
    tree = ast.parse((ROOT / package / "attention.py").read_text())
    (node,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return "\n".join(ast.unparse(statement) for statement in node.body[1:])


def columns(function):
    """A table of a column for each framework, as GitHub shows HTML."""
    heads = "".join(f"<th>{framework.title}</th>" for framework in FRAMEWORKS)
    cells = "".join(f"<td>\n\n```python\n{body(framework.package, function)}\n```\n\n</td>" for framework in FRAMEWORKS)
    return f"<table>\n<tr>{heads}</tr>\n<tr>{cells}</tr>\n</table>"


def test_the_columns_are_the_sources():
    """If this fails, paste what `columns` gives."""
    assert columns("masked_softmax") in README, columns("masked_softmax")


def test_the_table_has_every_clause():
    printed = README.split("```text\n")[1].split("```")[0]
    for clause, title in CLAUSES.items():
        assert any(line.split()[0] == clause and title in line for line in printed.splitlines()), clause
    assert "HOLDS: torch_impl, jax_impl, tf_impl" in printed


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")], ids=str
)
def test_blocks_of_code_are_fenced(path):
    """And each says its language."""
    lines, inside = path.read_text().splitlines(), False
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("```"):
            assert inside or len(line) > 3, f"{path.name}: a block without a language"
            inside = not inside
        elif not inside and not before.strip():
            assert not line.startswith("    trihead "), line
            assert not line.startswith("    make "), line
