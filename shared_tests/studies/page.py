"""Pages: one HTML file each that needs nothing else, of the templates beside this file (jinja2, the extra `report`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared_tests.harness.rounding import GATE
from shared_tests.releases import ABSENT

if TYPE_CHECKING:
    from jinja2 import Environment


def templates() -> Environment:
    """The templates. Whatever they are given is shown as text, never as HTML. Raises ImportError without jinja2."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError:
        raise ImportError("jinja2: expected it to be installed (pip install 'trihead[report]'), got none") from None
    loader = PackageLoader("shared_tests.studies")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.globals["gate"] = f"{GATE:g}"
    return found


def installed(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts of a page's last section, without what is not installed."""
    return {name: value for name, value in facts.items() if value != ABSENT}


def render(template: str, **context: Any) -> bytes:
    """A page, of the template of this name: what extends `base.html.j2` has its style, its header and its footer."""
    return templates().get_template(template).render(context).encode(errors="replace")  # a name may hold anything
