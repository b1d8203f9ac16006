"""`trihead show`: a function of the three, side by side."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from shared_tests import mirrors, sources
from shared_tests.commands.terminal import console
from shared_tests.frameworks import FRAMEWORKS

NARROW = 50
"""Where three columns would have fewer characters, they stand one below the other."""
MARK, ALONE = "bold underline", "bold"
PYTHON = Syntax("", "python", theme="ansi_dark")

Names = Annotated[
    list[str], typer.Argument(metavar="NAME...", help="A function, a class or Class.method; its call is Class.call.")
]


def show(names: Names) -> None:
    """Show a function of the three packages side by side: what another column lacks is marked. Imports no framework."""
    for name in [found for wanted in names for found in sources.called(wanted)]:
        pieces = {
            framework.title: sources.find(framework.package, name)
            for framework in FRAMEWORKS
            if name in sources.definitions(framework.package)
        }
        _print(Text(name, "bold"))
        for title in [framework.title for framework in FRAMEWORKS if framework.title not in pieces]:
            _print(Text(f"{title} has nothing of this name."))
        _show(pieces)


def _show(pieces: dict[str, list[sources.Piece]]) -> None:
    """Columns, or one below the other where they would be narrow; once, if the three are the same."""
    texts = {title: sources.joined(found) for title, found in pieces.items()}
    places = {title: f"{title}, {', '.join(piece.place for piece in found)}" for title, found in pieces.items()}
    if len(texts) == len(FRAMEWORKS) and len({*texts.values()}) == 1:
        places = {"": f"The same in all three, {pieces[FRAMEWORKS[0].title][0].place}"}
        texts = {"": texts[FRAMEWORKS[0].title]}
    rows = mirrors.rows(texts)
    width = (console.width - 2 * len(texts)) // len(texts)
    if width >= NARROW and len(texts) > 1:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for title in texts:
            table.add_column(places[title], width=width)
        for row in rows:
            table.add_row(*(_folded(_drawn(row[title]), width) for title in texts))
        console.print(table)
        console.print()
    else:
        for title in texts:
            _print(Text(places[title], "bold"))
            for row in rows:
                if row[title] is not None:
                    _print(_drawn(row[title]))
            console.print()


def _print(text: Text) -> None:
    console.print(text, soft_wrap=True)


def _drawn(line: mirrors.Line | None) -> Text:
    """A line with its colours and its marks."""
    if line is None:
        return Text()
    text = PYTHON.highlight(line.text)
    text.rstrip()
    for start, end in {span for spans in line.lacking.values() for span in spans}:
        text.stylize(MARK, start, end)
    if line.alone:
        text.stylize(ALONE)
    return text


def _folded(text: Text, width: int) -> Text:
    """What does not fit goes on below, four characters further in."""
    first, *_ = text.wrap(console, width, no_wrap=False) or [text]
    rest = text[len(first.plain.rstrip()) :]
    if not rest.plain.strip():
        return text
    indent = " " * (len(text.plain) - len(text.plain.lstrip()) + 4)
    lines = rest[len(rest.plain) - len(rest.plain.lstrip()) :].wrap(console, width - len(indent), no_wrap=False)
    return Text("\n").join([first, *(Text(indent) + line for line in lines)])
