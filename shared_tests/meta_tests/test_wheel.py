"""What is published: the wheel has the packages and nothing else, works on its own, and the sdist has all that the
tests need."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from shared_tests.frameworks import FRAMEWORKS, OURS

ROOT = Path(__file__).parents[2]
MOST = 6_000_000
"""So many bytes the wheel may have."""


def run(*command, **options):
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist of this tree, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--quiet", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder into which the wheel was installed, without what it needs."""
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name))  # which checks it


def test_the_wheel_is_small_and_has_no_docs_and_no_tests_of_tests(wheel):
    assert wheel.stat().st_size < MOST
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {*OURS, "shared_tests"}
    assert not [name for name in names if "meta_tests" in name or "framework_tests" in name]


@pytest.mark.parametrize("package", [*OURS, "shared_tests"])
def test_the_wheel_has_every_file_of_a_package(wheel, package):
    apart = ("shared_tests/meta_tests/", "shared_tests/framework_tests/")
    files = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / package).rglob("*") if p.is_file())
    files = [name for name in files if "__pycache__" not in name and not name.startswith(apart)]
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(name for name in archive.namelist() if name.startswith(f"{package}/")) == files


def test_the_sdist_has_what_the_tests_need(dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = ["Makefile", "constraints.txt", ".ci/run", "docs/contract.md", "shared_tests/meta_tests/test_wheel.py"]
    assert names.issuperset(needed)
    assert not [name for name in names if "__pycache__" in name]


def test_the_metadata(metadata):
    assert metadata.name == "trihead"
    assert str(metadata.requires_python) == ">=3.11"
    assert metadata.license_expression == "MIT"
    assert {"Typing :: Typed", "Framework :: Pytest"} <= set(metadata.classifiers)
    assert {framework.extra for framework in FRAMEWORKS} <= set(metadata.provides_extra)
    assert metadata.description == (ROOT / "README.md").read_text()


@pytest.mark.parametrize("package", [*OURS, "shared_tests"])
def test_a_package_of_the_wheel_imports_and_says_its_types(installed, package, tmp_path):
    code = f"import {package}; print({package}.__file__)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    assert run("-c", code, cwd=tmp_path, env=environment).strip().startswith(str(installed))
    assert (installed / package / "py.typed").exists()


def test_the_command_of_the_wheel_judges_a_port(installed, tmp_path):
    """All data files are there: cases, goldens, the list of known differences, the page's templates."""
    command = ["-m", "shared_tests", "verify", "--subject", f"{ROOT / 'docs' / 'my_port.py'}:MyPort"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    page = tmp_path / "page.html"
    printed = run(*command, "--html", page, cwd=tmp_path, env=environment)
    assert "HOLDS" in printed
    assert "HOLDS" in page.read_text()
