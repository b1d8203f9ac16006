"""One layer out of arrays in some layout, and into another: names and moves, no arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared_tests.layouts.canonical import check_complete, check_fits, check_heads, check_numbers, sizes, wanted
from shared_tests.layouts.layout import ADDITIVE, BIASES, WEIGHTS, Form, Heads, Layout, Stored
from shared_tests.layouts.moves import AXES, ORDERS, repeated
from shared_tests.layouts.names import dotted
from shared_tests.tensors import Array

NO_HEADS = "heads: expected their number (--num-heads), got none"


@dataclass
class Layer:
    """What was read or written: canonical weights, where they are in the file, and what must be said about them."""

    weights: dict[str, Array]
    num_heads: Heads
    places: dict[str, str]
    """Canonical name -> the name of the array in the file."""
    notes: list[str] = field(default_factory=list)


def read(layout: Layout, form: Form, arrays: Mapping[str, Array], num_heads: Heads = None) -> Layer:
    """The canonical weights of the layer whose arrays these are, by their names after its prefix.

    Raises ValueError, naming the array, for what is missing or contradicts itself.
    """
    known = {dotted(name): name for name in arrays}
    found = {stored: known[dotted(stored.name)] for stored in form if dotted(stored.name) in known}
    if missing := [stored.name for stored in form if stored.required and stored not in found]:
        raise ValueError(f"{', '.join(missing)}: missing")
    for stored, name in found.items():
        axes, array = stored.axes.split(), arrays[name]
        if array.ndim != len(axes) or not array.size:
            raise ValueError(f"{name}: expected shape ({', '.join(axes)}), got {array.shape}")
        check_numbers(name, array)
    layer = Layer({}, _heads({name: (stored, arrays[name].shape) for stored, name in found.items()}, num_heads), {})
    _split(layout, {stored: AXES[stored.axes].to_rows(arrays[name]) for stored, name in found.items()}, found, layer)
    _spread_groups(layout, layer)
    check_fits(layout, sizes(layer.weights, layer.places), layer.places)
    _fill_biases(layer)
    check_complete(layer.weights, output="W_o.weight" in layer.weights)
    layer.weights = {name: np.array(array, _native(array.dtype), order="C") for name, array in layer.weights.items()}
    return layer


def write(layout: Layout, weights: Mapping[str, Array], num_heads: Heads = None) -> tuple[dict[str, Array], Layer]:
    """Canonical weights in a layout, and what was placed where: the inverse of `read`.

    Raises ValueError, naming the array, if the layout has no place for them.
    """
    check_complete(weights, output="W_o.weight" in weights)
    found = sizes(weights)
    check_heads(found.width, num_heads)
    check_fits(layout, found)
    layer = Layer(dict(weights), num_heads, {})
    _place(layout, layer)
    inputs = dict(zip(WEIGHTS, found, strict=False))
    arrays = {}
    for stored in form_for(layout, inputs):
        if all(name in layer.weights for name in stored.holds):
            arrays[stored.name] = _join(layout, stored, [layer.weights[name] for name in stored.holds], num_heads)
            layer.places |= dict.fromkeys(stored.holds, stored.name)
    return arrays, layer


def form_for(layout: Layout, inputs: Mapping[str, int]) -> Form:
    """The first form in which weights that share an array have one number of inputs."""

    def holds(form: Form) -> bool:
        return all(len({inputs[name] for name in stored.holds if name in inputs}) < 2 for stored in form)

    return next((form for form in layout.forms if holds(form)), layout.forms[0])


def _heads(found: Mapping[str, tuple[Stored, tuple[int, ...]]], given: Heads) -> Heads:
    """How many heads the shapes show, or else how many are said to be there."""
    shown = {
        name: shape[stored.axes.split().index("heads")]
        for name, (stored, shape) in found.items()
        if "heads" in stored.axes and stored.holds[0] in (WEIGHTS[0], WEIGHTS[3])
    }
    for name, number in shown.items():
        for other in (given, *shown.values()):
            if other not in (None, number):
                raise ValueError(f"{name}: expected {other} heads, got {number}")
    return next(iter(shown.values()), given)


def _split(layout: Layout, rows: Mapping[Stored, Array], found: Mapping[Stored, str], layer: Layer) -> None:
    """Gives each canonical name its rows, and the name of the array that held them."""
    width = next((x.shape[1] for stored, x in rows.items() if stored.holds == WEIGHTS[3:]), 0)
    for stored, part in rows.items():
        name, parts = found[stored], len(stored.holds)
        split = [part]
        if parts > 1:
            if len(part) <= width:
                raise ValueError(f"{name}: expected rows for {parts} projections of {width}, got {len(part)}")
            _check_known(layout, stored, name, layer.num_heads)
            check_heads(width, layer.num_heads)
            try:
                split = ORDERS[stored.order].split(part, parts, width or len(part) // parts, layer.num_heads or 1)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        layer.weights |= zip(stored.holds, split, strict=True)
        layer.places |= dict.fromkeys(stored.holds, name)


def _spread_groups(layout: Layout, layer: Layer) -> None:
    """Repeats keys and values that heads share, so that each head has its own."""
    width = sizes(layer.weights, layer.places, layout.grouped).width
    check_heads(width, layer.num_heads)
    rows = {name: len(layer.weights[name]) for name in WEIGHTS[1:3]}
    if set(rows.values()) == {width}:
        return
    if layer.num_heads is None:
        raise ValueError(f"{NO_HEADS}: they share the keys of {layer.places[WEIGHTS[1]]}")
    depth = width // layer.num_heads
    for name, number in rows.items():
        groups, rest = divmod(number, depth)
        if rest or layer.num_heads % groups or number != rows[WEIGHTS[1]]:
            raise ValueError(
                f"{layer.places[name]}: expected rows for a divisor of {layer.num_heads} heads of {depth}, got {number}"
            )
        for one in {name, name.replace("weight", "bias")} & layer.weights.keys():
            layer.weights[one] = repeated(layer.weights[one], depth, layer.num_heads // groups)
    layer.notes.append(f"{rows[WEIGHTS[1]] // depth} key and value heads repeated for {layer.num_heads} heads")


def _fill_biases(layer: Layer) -> None:
    """Zeros for the biases that are missing beside others."""
    present = "W_o.weight" in layer.weights
    if missing := [name for name in wanted(layer.weights, present) if name in BIASES and name not in layer.weights]:
        layer.weights |= {name: _zeros(layer.weights, name) for name in missing}
        layer.notes.append(f"{', '.join(missing)} missing beside other biases: zeros")


def _place(layout: Layout, layer: Layer) -> None:
    """Leaves out what the layout has no place for. Raises ValueError if that is more than zeros, or W_o."""
    weights, notes = layer.weights, layer.notes
    if not layout.additive and (extra := [name for name in ADDITIVE if name in weights]):
        raise ValueError(f"{extra[0]}: expected no additive scoring, for which layout {layout.name} has no place")
    for name in BIASES if layout.bias == "never" else layout.no_bias:
        if name in weights:
            if np.ascontiguousarray(weights.pop(name)).view(np.uint8).any():
                raise ValueError(f"{name}: expected zeros, since layout {layout.name} has no place for it, got others")
            notes.append(f"{name}, zeros, left out: no place for it")
    if not layout.output and (names := [name for name in ("W_o.weight", "W_o.bias") if name in weights]):
        notes.append(f"{', '.join(names)} left out: no place for it")
        layer.weights = weights = {name: array for name, array in weights.items() if name not in names}
    elif layout.output and "W_o.weight" not in weights:
        notes.append("W_o.weight missing: the layout that this was read from has none")
    if layout.bias == "always" and not set(BIASES) & set(weights):
        weights |= {name.replace("weight", "bias"): _zeros(weights, name) for name in WEIGHTS if name in weights}
        notes.append("no biases, and the layer has them: zeros")


def _join(layout: Layout, stored: Stored, parts: Sequence[Array], num_heads: Heads) -> Array:
    _check_known(layout, stored, stored.name, num_heads)
    if len(parts) == 1:
        return np.array(AXES[stored.axes].from_rows(parts[0], num_heads or 1), order="C")
    for what, values in (("dtype", [x.dtype for x in parts]), ("width", [x.shape[1:] for x in parts])):
        if any(value != values[0] for value in values):
            holds = ", ".join(stored.holds)
            raise ValueError(f"{holds}: expected one {what}, for {stored.name}, got {', '.join(map(str, values))}")
    try:
        rows = ORDERS[stored.order].join(parts, num_heads or 1)
    except ValueError as error:
        raise ValueError(f"{', '.join(stored.holds)}: {error}") from None
    return np.array(AXES[stored.axes].from_rows(rows, num_heads or 1), order="C")


def _check_known(layout: Layout, stored: Stored, name: str, num_heads: Heads) -> None:
    """Raises ValueError if the array cannot be split without the number of heads."""
    if num_heads is None and ("heads" in stored.axes or (stored.order == "by group" and len(stored.holds) > 1)):
        raise ValueError(f"{NO_HEADS}: layout {layout.name} needs it for {name}")


def _zeros(weights: Mapping[str, Array], name: str) -> Array:
    weight = weights[name.replace("bias", "weight")]
    return np.zeros(len(weight), weight.dtype)


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A reversed byte order is the one thing that reading changes."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")
