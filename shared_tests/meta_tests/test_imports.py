"""The import rules: as import-linter reads them, and as a fresh interpreter sees them."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS, LIBRARIES, OURS
from shared_tests.harness.find import find

ROOT = Path(__file__).parents[2]
MODULES = {module for home in (*FRAMEWORKS, *LIBRARIES) for module in home.modules}


def lint_imports(folder):
    command = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as lint; lint()"
    return subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True, timeout=120)


def test_rules_are_kept():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("torch_impl/attention.py", "import jax"),
        ("jax_impl/weights.py", "from torch_impl.checks import check_weights"),
        ("tf_impl/multihead.py", "import shared_tests.cases.case"),
        ("shared_tests/harness/oracle.py", "import torch"),
        ("shared_tests/studies/bench.py", "import keras"),
        ("shared_tests/commands/verify.py", "import flax"),
        ("shared_tests/cases/case.py", "import shared_tests.harness.judge"),
        ("shared_tests/subjects/tf_impl.py", "import jax_impl"),
        ("shared_tests/subjects/haiku_builtin.py", "import torch"),
        ("shared_tests/subjects/ort_builtin.py", "import jax"),
        ("shared_tests/subjects/bert_builtin.py", "import keras"),
        ("shared_tests/harness/find.py", "import equinox"),
        ("shared_tests/layouts/table.py", "import torch"),
        ("shared_tests/cases/minilm.py", "import transformers"),
        ("shared_tests/subjects/_layers_onnx.py", "import torch"),
        ("shared_tests/subjects/_layers_timm.py", "import jax"),
        ("shared_tests/subjects/_minilm.py", "import keras"),
        ("shared_tests/studies/examples.py", "import shared_tests.subjects._minilm"),
    ],
)
def test_a_breach_is_seen(tmp_path, file, line):
    for package in [*OURS, "shared_tests"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / file
    target.write_text(f"{target.read_text()}\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout


def loaded_by(statement):
    code = f"{statement}; import sys; print(*({MODULES} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=OURS)
def test_a_package_loads_no_other_framework(framework):
    """Less what its own framework loads: `import tensorflow` alone loads jax."""
    own = f"import {', '.join(framework.modules)}"
    assert loaded_by(f"import {framework.package}") <= loaded_by(own)


@pytest.mark.parametrize("library", LIBRARIES, ids=[library.subject for library in LIBRARIES])
def test_a_subject_loads_its_library_and_its_framework(library):
    """And one whose library is made of none of the three loads none of them."""
    own = {module for framework in FRAMEWORKS if framework.package == library.framework for module in framework.modules}
    loaded = loaded_by(f"import shared_tests.subjects.{library.subject}")
    assert set(library.modules) <= loaded <= {*library.modules, *own}


@pytest.mark.parametrize("library", LIBRARIES, ids=[library.subject for library in LIBRARIES])
def test_a_missing_library_is_one_line_that_names_the_extra(monkeypatch, library):
    monkeypatch.delitem(sys.modules, f"shared_tests.subjects.{library.subject}", raising=False)
    monkeypatch.setitem(sys.modules, library.modules[0], None)  # as if it were not there
    with pytest.raises(ImportError, match=rf"^{library.subject}: .*; pip install 'trihead\[{library.extra}\]'$"):
        find(library.subject)


def test_the_judge_of_a_port_loads_no_framework():
    assert loaded_by("import shared_tests.commands.app, shared_tests") == set()


TESTS = [path for folder in ("", "meta_tests") for path in sorted((ROOT / "shared_tests" / folder).glob("*.py"))]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_tests_import_no_framework(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert not imported & (MODULES | set(OURS))
