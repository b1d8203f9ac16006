"""`trihead convert`: weights from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from shared_tests.commands.terminal import check_writable, console, progress
from shared_tests.layouts.convert import Block, Conversion, to_bytes
from shared_tests.layouts.files import open_weights
from shared_tests.layouts.table import LAYOUTS, layout_named
from shared_tests.storage import write_bytes
from shared_tests.studies.converted import check as check_layer


def list_layouts(wanted: bool) -> None:
    """Prints the table of layouts, and ends the command."""
    if wanted:
        table = Table("layout", "used by", "function", box=None)
        for layout in LAYOUTS.values():
            table.add_row(layout.name, layout.used_by, layout.function)
        console.print(table)
        raise typer.Exit


def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A file .safetensors, .npz, .pt, .pth, .bin, .weights.h5, .h5 or .keras."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file .safetensors to write.")],
    to: Annotated[str, typer.Option(help="The layout to write; --list names them.")],
    from_: Annotated[str | None, typer.Option("--from", help="The layout of IN. Default: the one that fits.")] = None,
    prefix: Annotated[
        str | None, typer.Option(help="The layer's place in IN; '*' stands for part of a name: all layers that fit.")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option(help="How many heads. Default: what the shapes or a config say.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also run the layer that OUT is for, beside the oracle.")
    ] = False,
    _list: Annotated[
        bool, typer.Option("--list", callback=list_layouts, is_eager=True, help="Print the layouts, and stop.")
    ] = False,
) -> None:
    """Bring attention weights from one layout to another, bit for bit; exit 2, and no OUT, if that cannot be done."""
    if out.suffix != ".safetensors":
        raise ValueError(f"OUT: expected a file .safetensors, got {out}")
    check_writable("OUT", out)
    conversion = Conversion(layout_named(to), layout_named(from_) if from_ else None, prefix, num_heads)
    file = open_weights(source)
    blocks = []
    groups = conversion.find(file)
    with progress("convert", len(groups)) as (bar, task):
        for group in groups:
            blocks.append(conversion.convert(file, group))
            bar.update(task, advance=1, description=escape(group[0].prefix))
    data = to_bytes(conversion, blocks)
    _print_table(conversion, blocks)
    holds = not check or _check(conversion, blocks)
    write_bytes(out, data)
    raise typer.Exit(0 if holds else 1)


def _print_table(conversion: Conversion, blocks: list[Block]) -> None:
    target = conversion.target
    table = Table(box=None)
    sources = list(dict.fromkeys(layout for block in blocks for layout in block.layouts))
    for title in (
        f"from {', '.join(layout.name for layout in sources)}",
        "canonical",
        "shape",
        f"to {target.name}",
        "shape",
    ):
        table.add_column(title, overflow="fold")
    for block in blocks:
        for name, array in block.written.weights.items():
            if name in block.written.places:
                written = block.name(block.written.places[name], target.separator)
                shape = str(block.arrays[written].shape)
                row = block.layer.places.get(name, "zeros"), name, str(array.shape), written, shape
                table.add_row(*map(escape, row))
    console.print(table, highlight=False)
    for note in dict.fromkeys(note for block in blocks for note in block.notes):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    for layout in dict.fromkeys((*sources, target)):
        if layout.differs or layout.lengths:
            console.print(
                f"{layout.name}: the function is {layout.function}", highlight=False, markup=False, soft_wrap=True
            )


def _check(conversion: Conversion, blocks: list[Block]) -> bool:
    """Runs each layer beside the oracle, and says what came of it."""
    holds = True
    for block in blocks:
        bare = {place: block.arrays[block.name(place, conversion.target.separator)] for place in block.places}
        what = f"check {block.prefix or conversion.target.name}"
        try:
            verdict = check_layer(conversion.target, bare, block.layer.weights, block.layer.num_heads)
        except ImportError as error:
            console.print(f"{what}: not checked, {error}", highlight=False, markup=False, soft_wrap=True)
            continue
        words = f"{verdict.worst:.2f}σ of {verdict.compared:,}" + (f" without {verdict.what}" if verdict.what else "")
        words += "" if verdict.holds else f": {verdict.note}"
        console.print(f"{what}: {words}", highlight=False, markup=False, soft_wrap=True)
        holds &= verdict.holds
    return holds
