"""Pages of the site that show the sources of the three packages whole, with a link to every line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx

from shared_tests import sources
from shared_tests.frameworks import OURS


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(name, context, template) of every page."""
    formatter = HtmlFormatter(linenos="inline", anchorlinenos=True, linespans="L", wrapcode=True)
    for package in OURS:
        for path in sorted(sources.folder(package).glob("*.py")):
            title = f"{package}/{path.name}"
            code = highlight(path.read_text(), PythonLexer(), formatter)
            body = f'<h1>{title}</h1>\n<div class="source">{code}</div>'
            yield f"source/{package}/{path.stem}", {"title": title, "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-collect-pages", pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
