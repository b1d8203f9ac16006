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
Pieces = list[sources.Piece]


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
        sentences = self._sentences()
        pieces = {column: self._pieces(column) for column in COLUMNS}
        texts = {column: sources.joined(found) for column, found in pieces.items() if found}
        same = len(texts) == len(COLUMNS) and len({*texts.values()}) == 1
        wanted, got = ([ALL] if same else [*COLUMNS]), [*sentences]
        if wanted != got:
            raise self.error(f"mirror: expected a sentence for {', '.join(wanted)}, got {', '.join(got) or 'none'}")
        texts = {ALL: texts["torch"]} if same else texts
        rows = mirrors.rows(texts)
        node = drawing.mirror(rows=len(rows), same=same)
        for column in sentences:
            found = [piece for one in pieces.values() for piece in one] if same else pieces[column]
            title = "The same in all three" if same else COLUMNS[column].title
            node += self._column(column, title, found, sentences[column])
            if found:
                code = texts[column]
                node[-1] += drawing.mirror_code(code, code, language="python", rows=rows, column=column)
        return [node]

    def _sentences(self) -> dict[str, str]:
        """By column, in the order of the columns."""
        found: dict[str, str] = {}
        for line in filter(str.strip, self.content):
            start = re.match(r"(\w+):\s+(.*)", line)
            if start and start[1] in (*COLUMNS, ALL):
                found[start[1]] = start[2]
            elif found:
                found[[*found][-1]] += f" {line.strip()}"
            else:
                raise self.error(f"mirror: expected a line such as 'torch: …', got {line!r}")
        return {column: found[column] for column in (*COLUMNS, ALL) if column in found}

    def _names(self, column: str) -> list[str]:
        names = self.options.get(column, self.arguments[0]).split()
        return [] if names == ["none"] else names

    @property
    def _only(self) -> list[str] | None:
        return self.options["only"].split() if "only" in self.options else None

    def _pieces(self, column: str) -> Pieces:
        package, found = COLUMNS[column].package, []
        try:
            for name in self._names(column):
                self.env.note_dependency(str(sources.folder(package) / f"{name.partition('.')[0]}.py"))
                found += sources.find(package, name, self._only)
        except ValueError as error:
            raise self.error(f"mirror: {error}") from error
        return found

    def _column(self, column: str, title: str, pieces: Pieces, sentence: str) -> nodes.Element:
        """A column down to its sentence."""
        names = [f"{p}:{n}" for p, n in self._covered(column)]
        node = drawing.mirror_column(column=column, title=title, names=[] if "again" in self.options else names)
        heading = nodes.paragraph("", "", nodes.strong("", title), classes=["mirror-title"])
        up = "../" * self.env.docname.count("/")
        for piece in pieces:
            link = f"{up}source/{piece.file.removesuffix('.py')}.html#L-{piece.first}"
            shown = piece.place if column == ALL else piece.place.partition("/")[2]
            heading += [nodes.Text(" "), nodes.reference("", shown, refuri=link)]
        note = nodes.paragraph("", "", *self.parse_inline(sentence)[0], classes=["mirror-note"])
        node += [heading, note]
        return node

    def _covered(self, column: str) -> list[tuple[str, str]]:
        columns = COLUMNS if column == ALL else [column]
        return [
            (COLUMNS[c].package, found)
            for c in columns
            for name in self._names(c)
            for found in sources.covered(COLUMNS[c].package, name, self._only)
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("mirror", Mirror)
    drawing.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
