"""`mirror`: the same function in the three frameworks side by side, read out of their sources when the site is built.

    :::{mirror} attention.masked_softmax
    torch: One sentence above the column.
    jax: …
    tf: …
    :::

Names are those of `trihead show`, with their module; several are drawn one below the other. Options: `:torch:`,
`:jax:` and `:tf:` name something else for one column, or `none`; `:only:` names the methods to be shown of a class;
`:again:` says that the function stands on another page, too. Where the three are the same to the letter, one sentence
`all:` is enough.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import drawing
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from shared_tests import mirrors, sources
from shared_tests.frameworks import FRAMEWORKS

COLUMNS = {framework.package.removesuffix("_impl"): framework for framework in FRAMEWORKS}
ALL = "all"


@dataclass(frozen=True)
class Column:
    """What stands in one column of a mirror."""

    name: str
    title: str
    text: str
    pieces: list[sources.Piece]
    """Where the text is from; the heading links to each."""
    covered: list[str]
    """package:name of all that is shown."""


class Mirror(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(COLUMNS, directives.unchanged_required),
        "only": directives.unchanged,
        "again": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        columns = [self._column(name) for name in COLUMNS]
        if not any(column.text for column in columns):
            raise self.error("mirror: expected a column with something in it, got none")
        if len({column.text for column in columns}) == 1:
            columns = [_all(columns)]
        sentences = self._sentences([column.name for column in columns])
        rows = mirrors.rows({column.name: column.text for column in columns if column.text})
        node = drawing.mirror(rows=len(rows), same=columns[0].name == ALL)
        for column in columns:
            node += self._drawn(column, sentences[column.name])
            if column.text:
                code = drawing.mirror_code(column.text, column.text, language="python", rows=rows, column=column.name)
                node[-1] += code
        return [node]

    def _column(self, name: str) -> Column:
        """The column of a framework."""
        framework = COLUMNS[name]
        wanted = self.options.get(name, self.arguments[0]).split()
        only = self.options["only"].split() if "only" in self.options else None
        pieces, covered = [], []
        try:
            for one in wanted if wanted != ["none"] else ():
                path = sources.folder(framework.package) / f"{one.partition('.')[0]}.py"
                self.env.note_dependency(str(path))
                pieces += sources.find(framework.package, one, only)
                covered += [f"{framework.package}:{found}" for found in sources.covered(framework.package, one, only)]
        except ValueError as error:
            raise self.error(f"mirror: {error}") from error
        return Column(name, framework.title, sources.joined(pieces), pieces, covered)

    def _sentences(self, columns: list[str]) -> dict[str, str]:
        """The sentence of each column; one that is long goes on below."""
        found: dict[str, str] = {}
        for line in filter(str.strip, self.content):
            start = re.match(r"(\w+):\s+(.*)", line)
            if start and start[1] in (*COLUMNS, ALL):
                found[start[1]] = start[2]
            elif found:
                found[[*found][-1]] += f" {line.strip()}"
            else:
                raise self.error(f"mirror: expected a line such as 'torch: …', got {line!r}")
        if [*found] != columns:
            wanted, got = ", ".join(columns), ", ".join(found) or "none"
            raise self.error(f"mirror: expected a sentence for {wanted}, got {got}")
        return found

    def _drawn(self, column: Column, sentence: str) -> nodes.Element:
        """A column down to its sentence."""
        names = [] if "again" in self.options else column.covered
        node = drawing.mirror_column(column=column.name, title=column.title, names=names)
        heading = nodes.paragraph("", "", nodes.strong("", column.title), classes=["mirror-title"])
        up = "../" * self.env.docname.count("/")
        for piece in column.pieces:
            link = f"{up}source/{piece.file.removesuffix('.py')}.html#L-{piece.first}"
            shown = piece.place if column.name == ALL else piece.place.partition("/")[2]
            heading += [nodes.Text(" "), nodes.reference("", shown, refuri=link)]
        node += [heading, nodes.paragraph("", "", *self.parse_inline(sentence)[0], classes=["mirror-note"])]
        return node


def _all(columns: list[Column]) -> Column:
    """One column in place of several that are the same."""
    pieces = [column.pieces[0] for column in columns]
    covered = [name for column in columns for name in column.covered]
    return Column(ALL, "The same in all three", columns[0].text, pieces, covered)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("mirror", Mirror)
    drawing.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
