"""`trihead heads prune`: a layer in a file without some of its heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared_tests.commands.terminal import check_writable, console
from shared_tests.layouts.canonical import sizes, without_heads
from shared_tests.layouts.convert import Conversion
from shared_tests.layouts.files import open_weights
from shared_tests.layouts.layer import Layer
from shared_tests.layouts.layout import WEIGHTS
from shared_tests.layouts.table import layout_named
from shared_tests.storage import write_bytes
from shared_tests.tensors import Array, encode


def prune(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of weights, of the kinds that convert reads.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file .safetensors to write, in the book's layout.")],
    heads: Annotated[str, typer.Option(help="Which heads to remove, counted from 1, with commas between.")],
    num_heads: Annotated[
        int | None, typer.Option(help="How many heads the layer has. Default: what the shapes or a config say.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="The layout of IN. Default: the one that fits.")] = None,
    prefix: Annotated[str | None, typer.Option(help="The layer's place in IN, if there are several.")] = None,
) -> None:
    """Write a layer without some of its heads: without their rows of W_q, W_k, W_v, and their columns of W_o."""
    if out.suffix != ".safetensors":
        raise ValueError(f"OUT: expected a file .safetensors, got {out}")
    check_writable("OUT", out)
    book = layout_named("book")
    conversion = Conversion(book, layout_named(from_) if from_ else None, prefix, num_heads)
    file = open_weights(source)
    groups = conversion.find(file)
    if len(groups) > 1:
        raise ValueError(f"--prefix: expected one layer, got {len(groups)}")
    layer = conversion.convert(file, groups[0]).written
    pruned, kept = _pruned(layer, heads)
    write_bytes(out, encode(pruned, {"layout": book.name, "num_heads": str(kept)}))
    for name, array in pruned.items():
        if array.shape != (before := layer.weights[name].shape):
            _print(f"{name}: {before} to {array.shape}")
    parameters = f"{_count(pruned):,} of {_count(layer.weights):,} parameters"
    _print(f"{out}: {kept} of {layer.num_heads} heads, {parameters}")


def _pruned(layer: Layer, heads: str) -> tuple[dict[str, Array], int]:
    """The canonical weights without these heads, and how many heads they have."""
    if layer.num_heads is None:
        raise ValueError("--num-heads: expected how many heads the layer has, got none, and its file does not say")
    if missing := [name for name in WEIGHTS if name not in layer.weights]:
        raise ValueError(f"{missing[0]}: expected a layer that has it, got none")
    removed = heads_from(heads, layer.num_heads)
    head_dim = sizes(layer.weights).width // layer.num_heads
    return without_heads(layer.weights, removed, head_dim), layer.num_heads - len(removed)


def heads_from(text: str, num_heads: int) -> list[int]:
    """Heads from 0, of numbers that count from 1; the rules, and the words, are those of `prune_heads`."""
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--heads: expected numbers with commas between, got {text}") from None
    for number in numbers:
        if not 1 <= number <= num_heads:
            raise ValueError(f"--heads: expected 1 to {num_heads}, got {number}")
        if numbers.count(number) > 1:
            raise ValueError(f"--heads: expected each head once, got {number} more than once")
    if len(numbers) == num_heads:
        raise ValueError(f"--heads: expected at least 1 of {num_heads} to stay, got all")
    return [number - 1 for number in numbers]


def _count(arrays: dict[str, Array]) -> int:
    return sum(array.size for array in arrays.values())


def _print(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
