"""What is known about the three frameworks, and about the libraries of our subjects: commands and tests read it here.

Names only: nothing here imports a framework.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Framework:
    """One framework, our package for it, and what of that package is the framework's own idiom."""

    package: str
    """Our package, and the subject that judges it."""
    title: str
    """How people call the framework."""
    modules: tuple[str, ...]
    """What is imported, and by our package alone; `pip install 'trihead[EXTRA]'` brings it."""
    extra: str
    peer: str
    """The subject that is the framework's own multi-head attention, timed beside ours."""
    sharded: str
    """The subject that is our package over several devices."""
    call: str
    """The method that a layer's author writes."""
    tensor: str
    """The array type in signatures."""
    arguments: frozenset[str]
    """Arguments that are idiom: where numbers live, how they are drawn, whether it is training."""
    functions: frozenset[str]
    """Functions, methods and private classes that are idiom, or that other frameworks bring ready-made."""


FRAMEWORKS = (
    Framework(
        package="torch_impl",
        title="PyTorch",
        modules=("torch",),
        extra="torch",
        peer="torch_builtin",
        sharded="torch_sharded",
        call="forward",
        tensor="Tensor",
        arguments=frozenset({"device", "dtype", "out"}),
        functions=frozenset(
            {
                "_Replicated",
                "_are_plain",
                "_drops",
                "_gradient",
                "_own_randomness",
                "_part",
                "_takes_softmax",
                "as_lengths",
                "extra_repr",
                "ShardedMultiHeadAttention.mesh",
            }
        ),
    ),
    Framework(
        package="jax_impl",
        title="JAX",
        modules=("jax", "flax", "optax"),
        extra="jax",
        peer="nnx_builtin",
        sharded="jax_sharded",
        call="__call__",
        tensor="Array",
        arguments=frozenset({"axis", "rngs", "dtype", "param_dtype"}),
        functions=frozenset(
            {
                "_attend_before",
                "_attend_in_parts",
                "_for_all",
                "_greatest",
                "_part",
                "_sizes",
                "_specs",
                "draw_key",
            }
        ),
    ),
    Framework(
        package="tf_impl",
        title="TensorFlow",
        modules=("tensorflow", "keras"),
        extra="tensorflow",
        peer="keras_builtin",
        sharded="tf_sharded",
        call="call",
        tensor="tf.Tensor",
        arguments=frozenset({"seed", "training", "kwargs", "keys_mask", "values_mask"}),
        functions=frozenset(
            {
                "_Part",
                "_Spread",
                "_at_most",
                "_drops",
                "_fold",
                "_map",
                "_spread",
                "mask_of",
                "__call__",
                "__repr__",
                "build",
                "compute_output_shape",
                "compute_output_spec",
                "from_config",
                "get_build_config",
                "get_config",
                "ShardedMultiHeadAttention.__init__",
            }
        ),
    ),
)
OURS = tuple(framework.package for framework in FRAMEWORKS)
"""The subjects that are judged where none is named."""
SHARDED = tuple(framework.sharded for framework in FRAMEWORKS)
"""The same packages over several devices, which answer from processes of their own."""


@dataclass(frozen=True)
class Library:
    """A library beside the three whose attention layer is a subject."""

    subject: str
    modules: tuple[str, ...]
    """What the subject imports, beside its framework."""
    extra: str
    """`pip install 'trihead[EXTRA]'` brings it, and its framework."""
    framework: str = ""
    """Our package for the framework that it is made of; none if it is made of none of the three."""


LIBRARIES = (
    Library("equinox_builtin", ("equinox",), "equinox", "jax_impl"),
    Library("haiku_builtin", ("haiku",), "haiku", "jax_impl"),
    Library("ort_builtin", ("onnxruntime", "onnx"), "onnx"),
    Library("bert_builtin", ("transformers",), "bert", "torch_impl"),
)


def extra_of(module: str | None) -> str:
    """The extra of trihead that brings a module; empty if none does."""
    homes = (*FRAMEWORKS, *LIBRARIES)
    return next((home.extra for home in homes if (module or "").partition(".")[0] in home.modules), "")
