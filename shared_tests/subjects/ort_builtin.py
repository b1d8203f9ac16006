"""ONNX Runtime's `Attention`, of ONNX's own operators (opset 23), between four projections in one graph."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from shared_tests.harness.subject import Subject

OPSET = [helper.make_opsetid("", 23)]
IR_VERSION = 11  # that of this opset; a runtime may not know the newest
SOURCES = {"W_q": "queries", "W_k": "keys", "W_v": "values", "W_o": "context"}
OUTPUT = "projected W_o"


class OrtBuiltin(Subject):
    name = "ort_builtin"
    dtypes = ("float32", "float16")
    pruned = True
    empty = False
    rows_without_key = "zeros"
    device = "cpu:0"

    def build(self, config, weights, dtype):
        return {masked: _session(config, weights, dtype, masked) for masked in (False, True)}

    def forward(self, model, queries, keys, values, valid_lens):
        return tuple(_run(model, queries, keys, values, valid_lens, [OUTPUT, "weights"]))

    def forward_alone(self, model, queries, keys, values, valid_lens):
        return _run(model, queries, keys, values, valid_lens, [OUTPUT])[0]


def _run(model, queries, keys, values, valid_lens, outputs):
    inputs = {"queries": queries, "keys": keys, "values": values}
    if valid_lens is not None:
        per_query = valid_lens[:, None] if valid_lens.ndim == 1 else valid_lens
        attend = np.arange(keys.shape[1]) < per_query[..., None]
        inputs["attend"] = np.broadcast_to(attend, (*queries.shape[:2], keys.shape[1]))[:, None].copy()
    return model[valid_lens is not None].run(outputs, inputs)


def _session(config, weights, dtype, masked):
    """The layer, with a mask or without: an input of a graph is always given."""
    number, heads = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), config.num_heads
    attention = helper.make_node(
        "Attention",
        ["projected W_q", "projected W_k", "projected W_v", *(["attend"] if masked else [])],
        ["context", "", "", "weights"],
        q_num_heads=heads,
        kv_num_heads=heads,
        qk_matmul_output_mode=3,  # after the softmax
    )
    sizes = {"queries": config.query_size, "keys": config.key_size, "values": config.value_size}
    inputs = [helper.make_tensor_value_info(name, number, [None, None, size]) for name, size in sizes.items()]
    inputs += [helper.make_tensor_value_info("attend", TensorProto.BOOL, [None] * 4)] if masked else []
    outputs = [helper.make_tensor_value_info(name, number, None) for name in (OUTPUT, "weights")]
    q, k, v, o = (_projection(name, source, weights) for name, source in SOURCES.items())
    parameters = [numpy_helper.from_array(np.ascontiguousarray(x.T), name) for name, x in weights.items()]
    graph = helper.make_graph([*q, *k, *v, attention, *o], "layer", inputs, outputs, parameters)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of the shape of attention weights, which it infers wrongly
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _projection(name, source, weights):
    product = helper.make_node("MatMul", [source, f"{name}.weight"], [f"product {name}"])
    if f"{name}.bias" in weights:
        return [product, helper.make_node("Add", [f"product {name}", f"{name}.bias"], [f"projected {name}"])]
    return [product, helper.make_node("Identity", [f"product {name}"], [f"projected {name}"])]
