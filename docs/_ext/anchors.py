"""`<a id="clause-2-1"></a>` in a page is an anchor that other pages may link to, here as on GitHub."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ANCHOR = re.compile(r'<a id="([\w-]+)">')


class Anchors(SphinxTransform):
    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        for raw in [*self.document.findall(nodes.raw)]:
            if found := ANCHOR.fullmatch(raw.astext()):
                target = nodes.target("", "", ids=[found[1]], names=[found[1]])
                self.document.note_explicit_target(target)
                raw.replace_self(target)
            elif raw.astext() == "</a>":
                raw.parent.remove(raw)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(Anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
