"""What a torch file may name and call, and what is done in its place: nothing of it is ever looked up or run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shared_tests.tensors import BFLOAT16, DTYPES

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
    "torch ComplexFloatStorage": np.dtype("<c8"),
    "torch ComplexDoubleStorage": np.dtype("<c16"),
    "torch.storage UntypedStorage": np.dtype("u1"),
}
LATER: dict[str, np.dtype[Any]] = {
    "torch uint16": np.dtype("<u2"),
    "torch uint32": np.dtype("<u4"),
    "torch uint64": np.dtype("<u8"),
    "torch float8_e4m3fn": DTYPES["F8_E4M3"],
    "torch float8_e4m3fnuz": DTYPES["F8_E4M3FNUZ"],
    "torch float8_e5m2": DTYPES["F8_E5M2"],
    "torch float8_e5m2fnuz": DTYPES["F8_E5M2FNUZ"],
    "torch float8_e8m0fnu": DTYPES["F8_E8M0"],
}
"""dtypes that have no storage of their own: such a tensor may lie beside a layer, and is refused in one."""


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


def _later(storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any) -> Tensor:
    """`torch._utils._rebuild_tensor_v3`, whose storage is bytes of any dtype."""
    if not isinstance(storage, Storage) or not isinstance(dtype, Name) or dtype.name not in LATER:
        raise ValueError(f"a tensor of {dtype!r:.60}")
    kind = LATER[dtype.name]
    count, rest_of_bytes = divmod(storage.numel * storage.dtype.itemsize, kind.itemsize)
    if rest_of_bytes:
        raise ValueError("a tensor whose storage ends within a number")
    return _tensor(Storage(kind, storage.key, count), offset, shape, stride)


def _typed(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    return call(function, arguments)


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda pairs=(): dict(pairs),
    "torch Size": lambda sizes=(): tuple(sizes),
    "torch device": lambda *where: None,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _later,
    "torch._utils _rebuild_parameter": lambda tensor, *rest: tensor,
    "torch._utils _rebuild_parameter_with_state": lambda tensor, *rest: tensor,
    "torch._tensor _rebuild_from_type_v2": _typed,
}
"""All that a file may call, and what is done in its place."""


def call(function: Any, arguments: Any) -> Any:
    """Does what stands in CALLS for a function, and no more."""
    if not isinstance(function, Name) or function.name not in CALLS or not isinstance(arguments, tuple):
        name = function.name if isinstance(function, Name) else type(function).__name__
        raise ValueError(f"a pickled {name.replace(' ', '.')}: {NOTHING_RUN}")
    return CALLS[function.name](*arguments)


def as_storage(persistent: Any) -> Storage:
    """What a pickle means by memory that lies outside of it, checked."""
    if not isinstance(persistent, tuple) or len(persistent) < 5:
        raise ValueError(f"a pickled module: {NOTHING_RUN}")
    kind, name, key, _, numel = persistent[:5]
    if kind != "storage" or not isinstance(name, Name) or name.name not in STORAGES:
        raise ValueError(f"memory of {name!r:.60}")
    if type(numel) is not int or not 0 <= numel < 2**62 or not isinstance(key, str):
        raise ValueError("memory of a size that is none")
    return Storage(STORAGES[name.name], key, numel)
