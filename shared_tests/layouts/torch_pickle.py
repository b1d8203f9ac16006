"""The pickles in torch files, read as data: dicts, lists, numbers, texts and tensors, and no call of anything else.

Python's own unpickler runs what a file asks for, and may be made to allocate what it likes. This one walks the
opcodes and knows the few that `torch.save` writes for a state dict; everything else is refused by name.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shared_tests.tensors import BFLOAT16

NOTHING_RUN = "only a state dict's tensors are read, nothing is run"


class Name(NamedTuple):
    """Something that a pickle names: a class or a function, never looked up."""

    name: str


class Storage(NamedTuple):
    """Memory of a tensor."""

    dtype: np.dtype[Any]
    key: str
    numel: int


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


STORAGES: dict[str, np.dtype[Any]] = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": BFLOAT16,
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`, checked."""
    sizes = [offset, *shape, *stride]
    if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
        raise ValueError("a tensor without a storage or with sizes that are none")
    if len(shape) != len(stride) or len(shape) > 32:
        raise ValueError(f"a tensor of {len(shape)} axes and {len(stride)} strides")
    elements, last = 1, offset
    for size, step in zip(shape, stride, strict=True):
        elements *= size
        last += (size - 1) * step
    if elements and (last >= storage.numel or elements > storage.numel):
        raise ValueError("a tensor that is larger than its storage")
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def _typed(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    return call(function, arguments)


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda pairs=(): dict(pairs),
    "torch Size": lambda sizes=(): tuple(sizes),
    "torch device": lambda *where: None,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *rest: tensor,
    "torch._utils _rebuild_parameter_with_state": lambda tensor, *rest: tensor,
    "torch._tensor _rebuild_from_type_v2": _typed,
}
"""All that a file may call, and what is done in its place."""

CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
ARGUMENTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "BINBYTES"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    "SHORT_BINBYTES",
}
"""Opcodes that push what stands after them."""


def call(function: Any, arguments: Any) -> Any:
    """Does what stands in CALLS for a function, and no more."""
    if not isinstance(function, Name) or function.name not in CALLS or not isinstance(arguments, tuple):
        name = function.name if isinstance(function, Name) else type(function).__name__
        raise ValueError(f"a pickled {name.replace(' ', '.')}: {NOTHING_RUN}")
    return CALLS[function.name](*arguments)


def _storage(persistent: Any) -> Storage:
    if not isinstance(persistent, tuple) or len(persistent) < 5:
        raise ValueError(f"a pickled module: {NOTHING_RUN}")
    kind, name, key, _, numel = persistent[:5]
    if kind != "storage" or not isinstance(name, Name) or name.name not in STORAGES:
        raise ValueError(f"memory of {name!r:.60}")
    if type(numel) is not int or not 0 <= numel < 2**62 or not isinstance(key, str):
        raise ValueError("memory of a size that is none")
    return Storage(STORAGES[name.name], key, numel)


class _Machine:
    """A pickle's stack and memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items, self.stack[start:] = self.stack[start:], []
        return items

    def step(self, op: str, argument: Any) -> None:
        stack = self.stack
        if op in CONSTANTS:
            stack.append(CONSTANTS[op]())
        elif op in ARGUMENTS:
            stack.append(argument)
        elif op in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(Name(argument if op == "GLOBAL" else " ".join(reversed([stack.pop(), stack.pop()]))))
        elif op == "MARK":
            self.marks.append(len(stack))
        elif op in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self.memo[len(self.memo) if op == "MEMOIZE" else argument] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        else:
            self.build(op)

    def build(self, op: str) -> None:
        stack = self.stack
        if op in ("TUPLE", "LIST"):
            stack.append((tuple if op == "TUPLE" else list)(self.since_mark()))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(op[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif op in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if op == "APPEND" else self.since_mark()
            stack[-1].extend(items)
        elif op in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if op == "SETITEM" else self.since_mark()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif op == "REDUCE":
            arguments = stack.pop()
            stack[-1] = call(stack[-1], arguments)
        elif op == "BUILD":  # an OrderedDict's _metadata, or a tensor's attributes
            stack.pop()
        elif op == "BINPERSID":
            stack[-1] = _storage(stack[-1])
        elif op == "NEWOBJ":
            stack[-2:] = [call(stack[-2], None)]
        elif op not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"the opcode {op}: {NOTHING_RUN}")


def load(file: io.BytesIO) -> Any:
    """What the pickle at the file's place holds; the place is then after it."""
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(file):
        machine.step(opcode.name, argument)
    return machine.stack[-1]


def tensors(found: Any) -> dict[str, Tensor]:
    """All tensors in nested dicts and lists, by their names joined with dots; what is there twice, once."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            named[name] = value
        elif isinstance(value, (dict, list)) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else f"{key}", one) for key, one in items if type(key) in (str, int)]
    return named
