"""What several tests of the judge share: a browser, and the site built once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared_tests.frameworks import FRAMEWORKS

ROOT = Path(__file__).parents[2]
REFUSING = """
import sys
for name in {modules}:
    sys.modules[name] = None  # whoever imports it gets an ImportError
from sphinx.cmd.build import main
sys.exit(main({arguments}))
"""


@pytest.fixture(scope="module")  # it is ended with its tests: even idle, it takes an eighth of a processor
def browser():
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium: make browser, or apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, chromium_sandbox=False)


@pytest.fixture(scope="session")
def sphinx():
    """Builds a site as `make docs` does, in a process where no framework can be imported."""

    def build(docs, out):
        modules = [module for framework in FRAMEWORKS for module in framework.modules]
        arguments = ["--nitpicky", "--fail-on-warning", "--keep-going", "--quiet", str(docs), str(out)]
        command = [sys.executable, "-c", REFUSING.format(modules=modules, arguments=arguments)]
        return subprocess.run(command, cwd=docs.parent, capture_output=True, text=True, timeout=120)

    return build


@pytest.fixture(scope="session")
def site(tmp_path_factory, sphinx):
    """The folder of the built site."""
    out = tmp_path_factory.mktemp("site")
    built = sphinx(ROOT / "docs", out)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    return out
