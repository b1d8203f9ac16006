"""A layout: by which names, in which orientation and in which order of rows somebody stores the parameters."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("W_q.weight", "W_k.weight", "W_v.weight", "W_o.weight")
BIASES = ("W_q.bias", "W_k.bias", "W_v.bias", "W_o.bias")
ADDITIVE = ("attention.W_q.weight", "attention.W_k.weight", "attention.w_v.weight")


@dataclass(frozen=True)
class Stored:
    """One array of a layout."""

    name: str
    """What it is called, after the prefix of its layer."""
    holds: tuple[str, ...]
    """Canonical names, in the order in which their rows lie in it."""
    axes: str
    """A key of `moves.AXES`."""
    order: str = "stacked"
    """A key of `moves.ORDERS`."""

    @property
    def required(self) -> bool:
        """Whether there is no layer of this layout without it: biases and additive scoring may be absent."""
        return self.holds[0] in WEIGHTS


Form = tuple[Stored, ...]
Heads = int | None
"""A number of heads, if it is known."""


@dataclass(frozen=True)
class Layout:
    """One entry of the table: everything that conversion knows about a format."""

    name: str
    used_by: str
    """Whose layers are stored so."""
    forms: tuple[Form, ...]
    """Ways in which the layout is met. All are read; the first that can hold the sizes is written."""
    differs: str = ""
    """Why the layer's function is not ours, though its weights are; empty: the function is ours."""
    lengths: str = ""
    """With which valid lengths the function is ours, if not with any."""
    hidden: tuple[str, ...] = ()
    """Sizes that are num_hiddens in the layer: query_size, key_size, value_size, width (that of all heads)."""
    same_keys: bool = False
    """Whether key_size and value_size are one."""
    bias: str = "optional"
    """"always": the layer is not made without. "never": it has no place for one."""
    no_bias: tuple[str, ...] = ()
    """Canonical biases that the layout has no place for, beside others that it has."""
    grouped: bool = False
    """Whether heads may share keys and values; canonical weights repeat them."""
    output: bool = True
    """Whether it has a W_o."""
    beside: tuple[str, ...] = ()
    """Names that lie beside the layer, under the same prefix, and are no part of it."""
    layer: str = ""
    """NAME:Class of the layer that --check runs, in shared_tests/subjects/_layers_NAME.py."""

    @property
    def function(self) -> str:
        """Whether the layer computes what ours does, in the words of the table."""
        if self.differs:
            return f"weights only: {self.differs}"
        return f"ours, {self.lengths}" if self.lengths else "ours"

    @property
    def additive(self) -> bool:
        """Whether it has a place for additive scoring."""
        return any(stored.holds[0] in ADDITIVE for stored in self.forms[0])

    @property
    def separator(self) -> str:
        """What stands between the parts of its names."""
        return "/" if any("/" in stored.name for stored in self.forms[0]) else "."


def separate(
    names: str, axes: tuple[str, str, str] = ("out in", "out in", "out"), ending: tuple[str, str] = (".weight", ".bias")
) -> Form:
    """Four projections of their own: `names` are those of queries, keys, values and output.

    axes: of the first three weights, of W_o, and of the first three biases. ending: of weights and biases.
    """
    form = []
    for name, canonical in zip(names.split(), ("W_q", "W_k", "W_v", "W_o"), strict=True):
        of_weight, of_bias = (axes[1], "out") if canonical == "W_o" else (axes[0], axes[2])
        form.append(Stored(f"{name}{ending[0]}", (f"{canonical}.weight",), of_weight))
        form.append(Stored(f"{name}{ending[1]}", (f"{canonical}.bias",), of_bias))
    return tuple(form)


def fused(
    name: str,
    output: str,
    axes: str = "out in",
    order: str = "stacked",
    parts: str = "qkv",
    ending: tuple[str, str] = (".weight", ".bias"),
) -> Form:
    """One projection for queries, keys and values, in the order of `parts`, and one for the output."""
    form = []
    for end, kind, turned in zip(ending, ("weight", "bias"), (axes, "out"), strict=True):
        form.append(Stored(f"{name}{end}", tuple(f"W_{part}.{kind}" for part in parts), turned, order))
        form.append(Stored(f"{output}.{kind}", (f"W_o.{kind}",), turned))
    return tuple(form)


def book(ending: tuple[str, str], axes: str) -> Form:
    """The book's own names, with additive scoring."""
    names = [name.removesuffix(".weight").replace(".", ending[0][0]) + ending[0] for name in ADDITIVE]
    scoring = tuple(Stored(name, (holds,), axes) for name, holds in zip(names, ADDITIVE, strict=True))
    return separate("W_q W_k W_v W_o", (axes, axes, "out"), ending) + scoring
