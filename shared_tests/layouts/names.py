"""Names in files: '.' and '/' are one, and so are endings by which frameworks differ."""

from __future__ import annotations

import re

_ENDINGS = re.compile(r"(?<=kernel|..bias)\.(value|raw_value)$")


def dotted(name: str) -> str:
    """A name with '.' between its parts, without what Keras 2 (":0"), flax (".value") and JAX (a first ".") add."""
    return _ENDINGS.sub("", name.removesuffix(":0").replace("/", ".").lstrip("."))


def joined(prefix: str, name: str) -> str:
    """A dotted name under a dotted prefix, which may be empty."""
    return f"{prefix}.{name}" if prefix else name


def matcher(prefix: str) -> re.Pattern[str]:
    """What a prefix given by the user stands for, in dotted names: '*' is anything but a separator."""
    parts = dotted(prefix).strip(".").split("*")
    return re.compile("[^.]+".join(map(re.escape, parts)))
