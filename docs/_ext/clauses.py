"""In tables, the numbers of clauses lead to their sentences in the contract: in columns headed "clause…"."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

CLAUSE = re.compile(r"(\b\d+\.\d+\b|\b6\b)")


class Clauses(SphinxTransform):
    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        for table in self.document.findall(nodes.tgroup):
            head, *rows = [row.children for row in table.findall(nodes.row)]
            for column, title in enumerate(head):
                if re.match(r"clauses?\b", title.astext()):
                    for row in rows:
                        self._link(row[column])

    def _link(self, cell: nodes.Node) -> None:
        for text in [node for node in cell.findall(nodes.Text) if isinstance(node.parent, nodes.paragraph)]:
            parts = CLAUSE.split(text.astext())
            made = [self._reference(part) if CLAUSE.fullmatch(part) else nodes.Text(part) for part in parts if part]
            text.parent.replace(text, made)

    def _reference(self, clause: str) -> nodes.reference:
        up = "../" * self.env.docname.count("/")
        url = f"{up}contract.html#clause-{clause.replace('.', '-')}"
        return nodes.reference("", clause, refuri=url)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(Clauses)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
