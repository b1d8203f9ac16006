"""What a port can be asked at all: dtypes, widths, biases and valid lengths, found by asking."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from shared_tests.faults.port import Port
from shared_tests.faults.probes import LENGTHS, WIDTHS, Probe, plain

Setting = tuple[str, str, bool, str]
"""dtype, widths, bias, kind of valid lengths."""


@dataclass
class Domain:
    """The settings in which a port answers, around one in which it does."""

    port: Port
    dtypes: list[str]
    widths: list[str]
    biases: list[bool]
    kinds: list[str]

    @property
    def dtype(self) -> str:
        return self.dtypes[0]

    def probe(
        self, kind: str = "", widths: str = "", bias: bool | None = None, dtype: str = "", spread: float = 1.0
    ) -> Probe:
        """One with what shows most: equal widths, so that any two parameters can be swapped, and biases."""
        widths = widths or next(w for w in ("one width", "one x", "distinct widths") if w in self.widths)
        bias = self.biases[-1] if bias is None else bias
        return plain(dtype or self.dtype, widths, bias, kind or self.richest, spread)

    @property
    def richest(self) -> str:
        """The kind of valid lengths that shows most."""
        return next(k for k in ("lengths per query", "lengths", "causal", "none") if k in self.kinds)


def find_domain(port: Port) -> Domain | None:
    """Where the port answers; None if it does so nowhere."""
    dtypes = list(port.subject.dtypes)
    settings = product(dtypes, WIDTHS, LENGTHS, (False, True))
    for dtype, widths, kind, bias in settings:
        if _answers(port, plain(dtype, widths, bias, kind)):
            return Domain(
                port,
                [d for d in dtypes if _answers(port, plain(d, widths, bias, kind))],
                [w for w in WIDTHS if _answers(port, plain(dtype, w, bias, kind))],
                [b for b in (False, True) if _answers(port, plain(dtype, widths, b, kind))],
                [k for k in LENGTHS if _answers(port, plain(dtype, widths, bias, k))],
            )
    return None


def _answers(port: Port, probe: Probe) -> bool:
    """Whether it gives an output of the shape and dtype that were asked for."""
    answer = port.ask(probe)
    if answer is None:
        return False
    expected = "float32" if probe.trial.dtype == "bfloat16" else probe.trial.dtype
    return expected == answer["output"].dtype or expected == "float32"
