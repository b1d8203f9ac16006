"""What HTML makes of a mirror: columns whose lines share rows, and marks on the words that another column lacks."""

from __future__ import annotations

import html
from itertools import groupby

from docutils import nodes
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from shared_tests.mirrors import Line

LEXER = PythonLexer(stripnl=False, ensurenl=False)


# Subclasses of nodes that every writer knows: HTML alone draws columns, any other gets paragraphs and blocks of code.
class mirror(nodes.container): ...  # noqa: N801


class mirror_column(nodes.container): ...  # noqa: N801


class mirror_code(nodes.literal_block): ...  # noqa: N801


def setup(app: Sphinx) -> None:
    for node, visit in ((mirror, visit_mirror), (mirror_column, visit_column), (mirror_code, visit_code)):
        app.add_node(node, html=(visit, depart))


def visit_mirror(self: HTML5Translator, node: nodes.Element) -> None:
    kind = "mirror mirror-same" if node["same"] else "mirror"
    self.body.append(f'<div class="{kind}" style="--rows:{node["rows"]}">\n')


def visit_column(self: HTML5Translator, node: nodes.Element) -> None:
    title, names = html.escape(node["title"]), html.escape(" ".join(node["names"]))
    self.body.append(
        f'<div class="mirror-column of-{node["column"]}" role="group" aria-label="{title}" data-names="{names}">\n'
    )


def visit_code(self: HTML5Translator, node: nodes.Element) -> None:
    lines = "".join(drawn(row[node["column"]]) for row in node["rows"])
    self.body.append(f'<div class="highlight-python"><div class="highlight"><pre>{lines}</pre></div></div>\n')
    raise nodes.SkipNode


def depart(self: HTML5Translator, node: nodes.Element) -> None:
    self.body.append("</div>\n")


def drawn(line: Line | None) -> str:
    """A line as HTML. Which columns are shown is up to the reader, so every mark names the one that it is against."""
    if line is None:
        return '<span class="gap"></span>'
    marks = [frozenset(_against(line, place)) for place in range(len(line.text))]
    styles = [STANDARD_TYPES.get(kind, "") for kind, text in LEXER.get_tokens(line.text) for _ in text]
    places = groupby(range(len(line.text)), key=lambda place: marks[place])
    text = "".join(_marked([*group], against, line.text, styles) for against, group in places)
    alone = "".join(f" alone-{column}" for column in sorted(line.alone)) if line.text.strip() else ""
    indent = len(line.text) - len(line.text.lstrip())
    return f'<span class="line{alone}" style="--indent:{indent}">{text}</span>\n'


def _against(line: Line, place: int) -> list[str]:
    """The columns that lack the character at a place."""
    return [column for column, spans in line.lacking.items() if any(start <= place < end for start, end in spans)]


def _marked(places: list[int], against: frozenset[str], text: str, styles: list[str]) -> str:
    """Characters with the same marks, in one box around as many colours as there are."""
    inner = ""
    for style, group in groupby(places, key=lambda place: styles[place]):
        part = html.escape("".join(text[place] for place in group), quote=False)
        inner += f'<span class="{style}">{part}</span>' if style else part
    marks = " ".join(f"not-{column}" for column in sorted(against))
    return f'<span class="mark {marks}">{inner}</span>' if against else inner
