"""Subjects: what a port gives to be judged, and how one is found by name or in a file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shared_tests.harness.case import Case, Config
from shared_tests.harness.rounding import FORMATS, Array


class Subject:
    """A port of multi-head attention: NumPy arrays in, NumPy arrays out; a framework appears nowhere else.

    A port gives `build` and `forward`. Two more are optional, `gradients` and `stages`; what a
    port does not have is reported as not offered, never as passed:

        gradients(model, queries, keys, values, valid_lens, cotangent)
            -> {"queries", "keys", "values" and each canonical weight name: array}
        stages(model, queries, keys, values, valid_lens) -> {stage name: array}, as in `oracle.forward`
    """

    name = ""
    """How reports call it; the class's name if empty."""
    dtypes: tuple[str, ...] = ("float64", "float32")
    """What it claims to compute in; "bfloat16" and "float16" may be added. bfloat16 goes in and out as float32."""
    additive = False
    """Whether it does additive scoring, which the weights "attention.…" ask for."""
    judged = True
    """Whether it is there to be judged; the frameworks' own layers are there to be timed."""
    dropout = False
    """Whether it has a method `with_mask(model, keep)`: the model in training, with this mask for its dropout."""

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Any:
        """Makes a model, any object, with these sizes and canonical weights."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method build(config, weights, dtype)")

    def forward(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """Returns the output (batch, queries, hidden) and the weights (batch, heads, queries, keys)."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward(model, queries, …)")


WEIGHTLESS = ("DotProductAttention", "FusedDotProductAttention")
"""Classes that have no weights, hence in PyTorch and JAX no dtype."""


class Implementation(Subject):
    """One of our own packages: a subject that also opens its whole public surface to the tests.

    A subclass names its package and tells how its framework makes a layer, takes an array, gives one back,
    compiles a function and finds gradients. A model is the pair of a layer and its dtype.
    """

    dtypes = ("float64", "float32", "bfloat16", "float16")
    additive = dropout = True
    package: ModuleType
    keeps_weights = True
    """Whether a scoring module keeps the weights of its last eager call, as the book's does."""

    def precision(self, dtype: str) -> AbstractContextManager[Any]:
        """Where numbers of `dtype` can be had; anywhere, but in JAX."""
        del dtype
        return nullcontext()

    def make(self, name: str, *arguments: Any, dtype: str = "float32", **options: Any) -> Any:
        """A layer of the package's class `name`, with dropout off."""
        raise NotImplementedError

    def blank(self, config: Config, additive: int, dtype: str) -> Any:
        """A `MultiHeadAttention` of these sizes; additive: the hidden width of additive scoring, or 0."""
        scoring = {}
        if additive:
            sizes = config.depth, config.depth, additive
            scoring["attention"] = self.make("AdditiveAttention", *sizes, 0.0, dtype=dtype)
        return self.make("MultiHeadAttention", **config, dropout=0.0, dtype=dtype, **scoring)

    def fused(self, config: Config, weights: Mapping[str, Array], dtype: str, dropout: float = 0.0) -> Any:
        """The layer with these weights and `FusedDotProductAttention`, and its dtype."""
        attention = self.make("FusedDotProductAttention", dropout, dtype=dtype)
        layer = self.make("MultiHeadAttention", **config, dropout=0.0, dtype=dtype, attention=attention)
        with self.precision(dtype):
            self.package.load_weights(layer, weights)
        return layer, dtype

    def reseed(self, layer: Any) -> None:
        """Starts the randomness of the dropout of a layer's scoring module over."""
        raise NotImplementedError

    def with_mask(self, model: Any, keep: Array) -> Any:
        """The model in training, its scoring module's dropout replaced by one that multiplies by `keep`."""
        raise NotImplementedError

    def training(self, layer: Any) -> Any:
        """The layer with dropout on, called as the layer is."""
        raise NotImplementedError

    def tensor(self, array: Array, dtype: str) -> Any:
        """The framework's tensor of an array, in `dtype` if it is floating."""
        raise NotImplementedError

    def array(self, tensor: Any) -> Array:
        """The NumPy array of a tensor; float32 for bfloat16."""
        raise NotImplementedError

    def compiled(self, function: Callable[..., Any], *arrays: Array, dtype: str) -> Callable[..., Any]:
        """A function of tensors under the framework's compiler, for these arrays and any other batch and lengths."""
        raise NotImplementedError

    def compiled_loosely(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same for no shapes in particular, as a user does who compiles without a word more."""
        raise NotImplementedError

    def restored(self, layer: Any, *arrays: Array, dtype: str, folder: Path) -> Callable[..., Any]:
        """The layer after the framework's own way of taking it apart and back, for any batch and lengths."""
        raise NotImplementedError

    def train(
        self,
        config: Config,
        weights: Mapping[str, Array],
        batches: Iterable[tuple[Array, Array]],
        optimizer: str,
        rate: float,
        dtype: str,
    ) -> Iterator[tuple[float, dict[str, Array]]]:
        """Trains the digits classifier: yields the loss of every batch, and all weights after its step.

        optimizer: "sgd" or "adam". weights: those of the layer, "head.weight" and "head.bias".
        """
        raise NotImplementedError

    def timed(self, layer: Any, x: Array, valid_lens: Array, need_weights: bool, training: bool) -> Callable[[], None]:
        """Self attention as the framework runs it fast, in float32: a call that returns when its results are there.

        training: the output is summed, and the gradients of the input and the parameters are found.
        """
        raise NotImplementedError

    def product(self, size: int) -> Callable[[], None]:
        """The product of two square float32 matrices, in the same way."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The framework's devices, and its settings that move numbers."""
        raise NotImplementedError

    def run(self, function: Callable[..., Any], *arguments: Any, dtype: str = "float64", **options: Any) -> Any:
        """Calls a function of the framework with NumPy arrays, and gives back NumPy arrays."""
        with self.precision(dtype):
            tensors = [self.tensor(x, dtype) if isinstance(x, np.ndarray) else x for x in arguments]
            result = function(*tensors, **options)
            return tuple(map(self.array, result)) if isinstance(result, tuple) else self.array(result)

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Any:
        """The layer with these weights, and its dtype."""
        additive = weights["attention.w_v.weight"].shape[1] if "attention.w_v.weight" in weights else 0
        layer = self.blank(config, additive, dtype)
        with self.precision(dtype):
            self.package.load_weights(layer, weights)
        return layer, dtype

    def forward(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> tuple[Array, Array]:
        """Calls the layer for its output and weights."""
        layer, dtype = model
        output, weights = self.run(layer, queries, keys, values, valid_lens, dtype=dtype, need_weights=True)
        return output, weights

    def stages(
        self, model: Any, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> dict[str, Array]:
        """Walks the layer by its public parts."""
        layer, dtype = model
        heads, batch = layer.num_heads, len(queries)
        per_head = None if valid_lens is None else np.repeat(valid_lens, heads, axis=0)
        stages = self.run(self.walk, layer, queries, keys, values, per_head, dtype=dtype)
        names = [f"{how}_{x}" for how in ("projected", "split") for x in ("queries", "keys", "values")]
        names += ["scores", "weights", "context", "concatenation", "output"]
        flat = ("split_queries", "split_keys", "split_values", "scores", "weights", "context")
        return {
            name: stage.reshape(batch, heads, *stage.shape[1:]) if name in flat else stage
            for name, stage in zip(names, stages, strict=True)
        }

    def walk(self, layer: Any, queries: Any, keys: Any, values: Any, valid_lens: Any) -> tuple[Any, ...]:
        """The stages as tensors, of which those of heads are (batch * heads, ...); valid_lens is per head."""
        projected = layer.W_q(queries), layer.W_k(keys), layer.W_v(values)
        split = [self.package.transpose_qkv(x, layer.num_heads) for x in projected]
        scores = layer.attention.score(*split[:2])
        weights = self.package.masked_softmax(scores, valid_lens)
        context = weights @ split[2]
        concatenation = self.package.transpose_output(context, layer.num_heads)
        return *projected, *split, scores, weights, context, concatenation, layer.W_o(concatenation)


def claims(subject: Subject, case: Case, dtype: str) -> bool:
    """Whether a subject claims all that a case asks for."""
    return dtype in subject.dtypes and (subject.additive or not case.additive) and (subject.dropout or not case.dropout)


def find(name: str) -> Subject:
    """The subject called `name` in `shared_tests.subjects`, or the class that FILE.py:Class names.

    Raises ValueError, in one line, if there is none or it lacks `build` or `forward`; ImportError if its
    framework is missing.
    """
    if ".py:" in name:
        path, _, class_name = name.rpartition(":")
        return _from_file(Path(path), class_name)
    module_name = f"shared_tests.subjects.{name}"
    if name not in known():
        raise ValueError(f"subject: expected one of {', '.join(known())} or FILE.py:Class, got {name}")
    module = importlib.import_module(module_name)
    classes = (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module_name)
    (found,) = (c for c in classes if issubclass(c, Subject))
    return _named(found())


def known() -> list[str]:
    """The names of the subjects that come with the project."""
    package = importlib.import_module("shared_tests.subjects")
    return sorted(path.stem for path in Path(str(package.__file__)).parent.glob("*.py") if path.stem != "__init__")


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps what native code greets with off standard error, unless an error comes of it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _from_file(path: Path, class_name: str) -> Subject:
    if not path.is_file():
        raise ValueError(f"subject: expected a file, got {path}")
    spec = importlib.util.spec_from_file_location(f"trihead port {path}", path)
    assert spec is not None
    assert spec.loader is not None  # the name ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    sys.path.append(str(path.parent.resolve()))  # a port may import a file beside it
    try:
        spec.loader.exec_module(module)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:  # a port's file may hold anything
        raise ValueError(f"{path}: expected a file that Python can run, got {in_words(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ValueError(f"subject: expected a class {class_name} in {path}, got none")
    missing = [method for method in ("build", "forward") if not hasattr(found, method)]
    if missing:
        raise ValueError(f"subject: expected {class_name} to have build and forward, got no {' and no '.join(missing)}")
    if not issubclass(found, Subject):  # a port need not import this project
        found = type(class_name, (found, Subject), {"__module__": found.__module__})
    try:
        subject: Subject = found()
    except (Exception, SystemExit) as error:
        raise ValueError(f"subject: expected {class_name}() to make one, got {in_words(error)}") from error
    return _named(subject)


def _named(subject: Subject) -> Subject:
    """The subject, called something; raises ValueError if it claims what there is not."""
    subject.name = subject.name or type(subject).__name__
    if not isinstance(subject.name, str) or subject.name == "oracle":
        raise ValueError(f"subject: expected a name other than the oracle's, got {subject.name!r}")
    dtypes = subject.dtypes
    if not isinstance(dtypes, (tuple, list)) or not dtypes or not all(dtype in FORMATS for dtype in dtypes):
        raise ValueError(f"subject: expected dtypes of {', '.join(FORMATS)}, got {dtypes!r}")
    return subject


def in_words(error: BaseException) -> str:
    """An error in one line, whatever it is."""
    try:
        first = (str(error).splitlines() or [""])[0]
    except Exception:
        first = "an error that cannot be printed"
    return f"{type(error).__name__}: {first}"
