"""The pickles in torch files, read as data: dicts, lists, numbers, texts and tensors, and no call of anything else.

Python's own unpickler runs what a file asks for, and may be made to allocate what it likes. This one walks the
opcodes and knows the few that `torch.save` writes for a state dict; everything else is refused by name.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

from shared_tests.layouts.torch_calls import NOTHING_RUN, Name, Tensor, as_storage, call

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
            stack[-1] = as_storage(stack[-1])
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
