"""ONNX Runtime's `Attention`, of ONNX's own operators (opset 23), between four projections in one graph."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from shared_tests.harness.subject import Subject

OPSET = [helper.make_opsetid("", 23)]
IR_VERSION = 11  # that of this opset; a runtime may not know the newest


class OrtBuiltin(Subject):
    name = "ort_builtin"
    dtypes = ("float32", "float16")
    empty = False
    rows_without_key = "zeros"
    device = "cpu:0"

    def build(self, config, weights, dtype):
        return {masked: _session(config, weights, dtype, masked) for masked in (False, True)}

    def forward(self, model, queries, keys, values, valid_lens):
        return tuple(_run(model, queries, keys, values, valid_lens, ["W_o.result", "weights"]))

    def forward_alone(self, model, queries, keys, values, valid_lens):
        return _run(model, queries, keys, values, valid_lens, ["W_o.result"])[0]


def _run(model, queries, keys, values, valid_lens, outputs):
    inputs = {"queries": queries, "keys": keys, "values": values}
    if valid_lens is not None:
        per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
        attend = np.arange(keys.shape[1]) < per_query[..., None]
        inputs["attend"] = np.broadcast_to(attend, (*queries.shape[:2], keys.shape[1]))[:, None].copy()
    return model[valid_lens is not None].run(outputs, inputs)


def _session(config, weights, dtype, masked):
    """A graph of the layer, with a mask or without: an input of a graph is always given."""
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = {"queries": config.query_size, "keys": config.key_size, "values": config.value_size}
    projected = {"W_q": "queries", "W_k": "keys", "W_v": "values", "W_o": "context"}
    nodes = {name: _projection(name, source, f"{name}.bias" in weights) for name, source in projected.items()}
    attention = helper.make_node(
        "Attention",
        ["W_q.result", "W_k.result", "W_v.result", *(["attend"] if masked else [])],
        ["context", "", "", "weights"],
        q_num_heads=config.num_heads,
        kv_num_heads=config.num_heads,
        qk_matmul_output_mode=3,  # those after the softmax
    )
    sources = [helper.make_tensor_value_info(name, number, [None, None, size]) for name, size in inputs.items()]
    if masked:
        sources.append(helper.make_tensor_value_info("attend", TensorProto.BOOL, [None] * 4))
    results = [helper.make_tensor_value_info(name, number, None) for name in ("W_o.result", "weights")]

    order = [*nodes["W_q"], *nodes["W_k"], *nodes["W_v"], attention, *nodes["W_o"]]
    arrays = [numpy_helper.from_array(np.ascontiguousarray(x.T), name) for name, x in weights.items()]
    graph = helper.make_graph(order, "attention", sources, results, arrays)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=IR_VERSION)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _projection(name, source, has_bias):
    product = helper.make_node("MatMul", [source, f"{name}.weight"], [f"{name}.{'product' if has_bias else 'result'}"])
    add = helper.make_node("Add", [f"{name}.product", f"{name}.bias"], [f"{name}.result"])
    return [product, add] if has_bias else [product]
