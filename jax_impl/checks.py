"""Refusals: a bad input is named, with what was expected and what came (contract, clause group 6).

Shapes and dtypes alone decide, so this file is the same in the three packages, to the
letter. A dimension that a graph does not know while it is traced is None, and passes.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_sizes(**sizes: Any) -> None:
    """Raises TypeError or ValueError unless every keyword is an integer of at least 1."""
    for name, size in sizes.items():
        _check_integer(name, size)
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")


def check_heads(name: str, width: int | None, num_heads: int) -> None:
    """Raises ValueError unless `width` (None: not known yet) splits evenly into `num_heads`."""
    if type(num_heads) is not int or num_heads < 1:  # asking check_sizes takes longer
        check_sizes(num_heads=num_heads)
    if width is not None and width % num_heads != 0:
        raise ValueError(f"{name}: expected a multiple of num_heads {num_heads}, got {width}")


def check_head_dim(num_hiddens: int, num_heads: int, head_dim: int | None) -> int:
    """Returns the width of a head: `head_dim`, or if that is None an even part of `num_hiddens`, which must be one."""
    if head_dim is None:
        check_heads("num_hiddens", num_hiddens, num_heads)
        return num_hiddens // num_heads
    check_sizes(num_heads=num_heads, head_dim=head_dim)
    return head_dim


def check_dropout(dropout: object) -> None:
    """Raises TypeError or ValueError unless `dropout` is a probability in [0, 1)."""
    if isinstance(dropout, bool) or not isinstance(dropout, Real):
        raise TypeError(f"dropout: expected a number, got {dropout!r}")
    if not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout: expected a number in [0, 1), got {dropout}")


def check_same_dropout(dropout: float, of_attention: float) -> None:
    """Raises ValueError if a layer and the scoring module that it is given would drop at different rates."""
    if dropout != of_attention:
        raise ValueError(f"attention: expected dropout {dropout}, as the layer's, got {of_attention}")


def check_dtype(name: str, wanted: object, got: object) -> None:
    """Raises ValueError if `name` would compute in another dtype, where the framework would cast silently."""
    if wanted != got:
        raise ValueError(f"{name}: expected dtype {wanted}, got {got}")


def check_array(name: str, x: Any, kind: str, *axes: str) -> tuple[Any, ...]:
    """Returns the shape of `x`; raises unless its dtype is of `kind` and it has these `axes`."""
    shape = _shape(name, x, kind)
    if shape is None or len(shape) != len(axes):
        got = "unknown rank" if shape is None else f"shape {shape}"
        raise ValueError(f"{name}: expected rank {len(axes)} ({', '.join(axes)}), got {got}")
    return shape


def check_valid_lens(valid_lens: Any, batch: int | None, queries: int | None) -> None:
    """Raises unless `valid_lens` is None, or integers of shape (batch,) or (batch, queries)."""
    if valid_lens is None:
        return
    shape = _shape("valid_lens", valid_lens, "int")
    wanted = (batch, queries)[: len(shape or ())]
    if shape is None or len(shape) not in (1, 2) or not (shape == wanted or all(map(_agree, shape, wanted))):
        got = "unknown rank" if shape is None else shape
        raise ValueError(f"valid_lens: expected shape ({batch},) or ({batch}, {queries}), got {got}")


def check_scores(scores: Any, valid_lens: Any) -> None:
    """Raises unless `scores` is (batch, queries, keys), with a key, and `valid_lens` fits it."""
    batch, queries, keys = check_array("scores", scores, "float", "batch", "queries", "keys")
    if keys == 0:
        raise ValueError("scores: expected at least 1 key, got 0")
    check_valid_lens(valid_lens, batch, queries)


def check_inputs(
    queries: Any,
    keys: Any,
    values: Any,
    valid_lens: Any,
    query_size: int | None = None,
    key_size: int | None = None,
    value_size: int | None = None,
) -> None:
    """Raises unless queries, keys, values and `valid_lens` fit each other and these widths.

    A query_size or value_size of None takes any width, a key_size of None that of the queries.
    """
    batch, length, query_width = check_array("queries", queries, "float", "batch", "queries", "width")
    key_batch, num_keys, key_width = check_array("keys", keys, "float", "batch", "keys", "width")
    value_batch, num_values, value_width = check_array("values", values, "float", "batch", "keys", "width")
    for name, wanted, got in (
        ("queries: expected width", query_size, query_width),
        ("keys: expected width", key_size or query_width, key_width),
        ("values: expected width", value_size, value_width),
        ("keys: expected batch", batch, key_batch),
        ("values: expected batch", batch, value_batch),
        ("values: expected length", num_keys, num_values),
    ):
        if wanted != got and not _agree(wanted, got):  # the call takes longer
            raise ValueError(f"{name} {wanted}, got {got}")
    if num_keys == 0:
        raise ValueError("keys: expected at least 1 key, got 0")
    check_valid_lens(valid_lens, batch, length)


def check_fused(need_weights: bool) -> None:
    """Raises ValueError if attention that never holds the attention weights is asked for them."""
    if need_weights:
        raise ValueError(
            "need_weights: expected False of FusedDotProductAttention, got True; DotProductAttention has them"
        )


def check_batch(batch: object) -> Any:
    """Returns `batch`; raises TypeError unless it is a tuple or a list, which an array could be taken for."""
    if not isinstance(batch, (tuple, list)):
        raise TypeError(f"batches: expected tuples of what the loss takes, got {type(batch).__name__}")
    return batch


def check_importance(gates: list[np.ndarray], depends: bool) -> None:
    """Raises ValueError unless there was a batch, and the loss of one depended on the layer."""
    if not gates:
        raise ValueError("batches: expected at least 1, got 0")
    if not depends:
        raise ValueError("loss: expected to depend on the layer that it is given, got gradient 0 of W_o")


def check_pruning(heads: Any, num_heads: int) -> list[int]:
    """Returns the heads that stay; raises unless `heads` names others, each once, and leaves at least one."""
    if not isinstance(heads, Iterable):
        raise TypeError(f"heads: expected an iterable of integers, got {type(heads).__name__}")
    removed = list(heads)
    for head in removed:
        _check_integer("heads", head)
        if not 0 <= head < num_heads:
            raise ValueError(f"heads: expected 0 to {num_heads - 1}, got {head}")
        if removed.count(head) > 1:
            raise ValueError(f"heads: expected each head once, got {head} more than once")
    if len(removed) == num_heads:
        raise ValueError(f"heads: expected at least 1 of {num_heads} to stay, got all")
    return [head for head in range(num_heads) if head not in removed]


def check_whole(layer: object, is_whole: bool) -> None:
    """Raises TypeError unless `layer` is a `MultiHeadAttention`, and all of it in one place."""
    if not is_whole:
        raise TypeError(f"layer: expected a MultiHeadAttention that is not sharded, got {type(layer).__name__}")


def check_mesh(mesh: object, shape: tuple[int, ...] | None, num_heads: int) -> int:
    """Returns the number of devices in a mesh; raises unless it is one, of one axis, and the heads divide evenly."""
    if shape is None:
        raise TypeError(f"mesh: expected a mesh of devices, got {type(mesh).__name__}")
    if len(shape) != 1:
        raise ValueError(f"mesh: expected 1 axis, got {len(shape)}")
    if num_heads % shape[0] != 0:
        raise ValueError(f"num_heads: expected a multiple of {shape[0]} devices, got {num_heads}")
    return shape[0]


def check_weights(weights: Mapping[str, Any], expected: Mapping[str, tuple[tuple[int, ...], float]]) -> None:
    """Raises one ValueError that names all that is wrong with {name: array}.

    expected: {name: (shape, the largest finite number of the parameter's dtype)}.
    """
    problems = [f"{name}: unexpected" for name in weights if name not in expected]
    for name, (shape, largest) in expected.items():
        if name not in weights:
            problems.append(f"{name}: missing")
            continue
        array = np.asarray(weights[name])
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            problems.append(f"{name}: expected float dtype, got {array.dtype}")
        elif array.shape != shape:
            problems.append(f"{name}: expected shape {shape}, got {array.shape}")
        elif not np.all(np.abs(array.astype(np.float64)) <= largest):
            problems.append(f"{name}: expected finite numbers of at most {largest:.4g}")
    if problems:
        raise ValueError("weights: " + "; ".join(problems))


def _check_integer(name: str, x: object) -> None:
    if type(x) is not int and (isinstance(x, bool) or not isinstance(x, Integral)):  # asking Integral takes longer
        raise TypeError(f"{name}: expected an integer, got {x!r}")


def _shape(name: str, x: Any, kind: str) -> tuple[Any, ...] | None:
    """The shape of `x`, None if a graph does not know its rank; raises TypeError unless its dtype is of `kind`."""
    shape = getattr(x, "shape", None)
    if shape is None:
        raise TypeError(f"{name}: expected an array, got {type(x).__name__}")
    dtype = str(x.dtype)
    if kind not in dtype:  # "float" names bfloat16 too, "int" uint8; ">i8" names none: TensorFlow misreads it
        known = str(getattr(x.dtype, "name", dtype)).removeprefix("torch.")
        raise TypeError(f"{name}: expected {kind} dtype, got {dtype if kind in known else known}")
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _agree(wanted: int | None, got: int | None) -> bool:
    return wanted is None or got is None or wanted == got
