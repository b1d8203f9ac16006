"""The layer as a subject, with faults planted in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_tests.cases.case import Config
from shared_tests.faults.arithmetic import Plain
from shared_tests.faults.backward import gradients
from shared_tests.faults.fault import Fault
from shared_tests.faults.layer import Layer
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import Subject


class Planted(Subject):
    """A right port in NumPy, but for the faults given.

    weights: whether it returns attention weights; stages: whether it shows its stages. Gradients are offered only where
    no step of the layer itself is another, for they are written for the right one.
    """

    additive = True
    pruned = True

    def __init__(self, *faults: Fault, weights: bool = True, stages: bool = True) -> None:
        self.faults, self.weights = faults, weights
        self.attention_weights = "per head" if weights else "none"
        self.name = " + ".join(map(str, faults)) or "right"
        self.shared: dict[str, Any] = {}
        if not stages:
            self.stages = None  # type: ignore[assignment, method-assign]
        if not all(fault.kind in ("gradients", "protocol") for fault in faults):
            self.gradients = None  # type: ignore[assignment, method-assign]

    def build(self, config: Config, weights: Mapping[str, Array], dtype: str) -> Layer:
        layer = Layer(config, weights, Plain(dtype), [fault.changes for fault in self.faults])
        layer.shared = self.shared
        if any("parameters" in fault.changes for fault in self.faults):
            layer.step("parameters", dict, weights)
        return layer

    def with_mask(self, model: Layer, keep: Array) -> Layer:
        model.keep = keep
        return model

    def forward(self, model: Layer, queries: Array, keys: Array, values: Array, valid_lens: Array | None) -> Any:
        answer = model.step("call", model.forward, queries, keys, values, valid_lens)
        return answer[0] if isinstance(answer, tuple) and not self.weights else answer

    def stages(
        self, model: Layer, queries: Array, keys: Array, values: Array, valid_lens: Array | None
    ) -> dict[str, Array]:
        model.step("call", model.forward, queries, keys, values, valid_lens)
        return model.stages

    def gradients(
        self, model: Layer, queries: Array, keys: Array, values: Array, valid_lens: Array | None, cotangent: Array
    ) -> dict[str, Array]:
        model.forward(queries, keys, values, valid_lens)
        return gradients(model, cotangent)
