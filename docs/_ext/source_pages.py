"""Pages of the site that show sources whole, with a link to every line; and links to them.

A page's link to a source, such as `[masked_softmax](../torch_impl/attention.py)`, which GitHub follows, leads to that
page here, and to the line of what it names.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms import SphinxTransform

from shared_tests import MODULES
from shared_tests.frameworks import OURS

ROOT = Path(__file__).parents[2]
FOLDERS = (*OURS, "shared_tests", "shared_tests/framework_tests", "shared_tests/meta_tests")
PUBLIC = {f"shared_tests/{module.replace('.', '/')}.py" for module in MODULES.values()}


def files() -> list[str]:
    """All that have a page: the packages, the tests, and what a port's own tests import."""
    found = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).glob("*.py")}
    return sorted(found | {file for file in PUBLIC if (ROOT / file).exists()})


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, context, template) of every page."""
    formatter = HtmlFormatter(linenos="inline", anchorlinenos=True, linespans="L", wrapcode=True)
    for file in files():
        code = highlight((ROOT / file).read_text(), PythonLexer(), formatter)
        body = f'<h1>{file}</h1>\n<div class="source">{code}</div>'
        yield f"source/{file.removesuffix('.py')}", {"title": file, "body": body}, "page.html"


def address(docname: str, file: str, line: int = 0) -> str:
    """Where a page finds a line of a file, such as torch_impl/attention.py."""
    up = "../" * docname.count("/")
    return f"{up}source/{file.removesuffix('.py')}.html" + (f"#L-{line}" if line else "")


class SourceLinks(SphinxTransform):
    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        for node in [*self.document.findall(addnodes.download_reference)]:
            place = posixpath.join("docs", posixpath.dirname(self.env.docname), node["reftarget"])
            file, name = posixpath.normpath(place), node.astext().rpartition(".")[2].removesuffix("()")
            if file in files():
                self.env.note_dependency(str(ROOT / file))
                url = address(self.env.docname, file, _line(file, name))
                node.replace_self(nodes.reference("", "", *node.children, refuri=url))


def _line(file: str, name: str) -> int:
    """Where a file defines a name, or 0 if the text of the link is no name of its. A test must be there."""
    line = _lines(file).get(name, 0)
    if name.startswith("test_") and name != Path(file).stem and not line:
        raise SphinxError(f"expected {file} to define {name}, found none")
    return line


@cache
def _lines(file: str) -> dict[str, int]:
    body = ast.parse((ROOT / file).read_text()).body
    return {node.name: node.lineno for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-collect-pages", pages)
    app.add_transform(SourceLinks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
