"""ONNX Runtime's own operator `Attention`, of the domain com.microsoft: three projections in one, and none after it."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from shared_tests.subjects._layers import OthersLayer

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 8


class Ort(OthersLayer):
    self_attention = True

    def build(self, config):
        random = np.random.default_rng(0)
        shapes = {"W": (config.query_size, 3 * config.num_heads * config.head_dim)}
        shapes |= {"b": shapes["W"][1:]} if config.bias else {}
        return config, {name: random.normal(scale=0.3, size=shape).astype("f4") for name, shape in shapes.items()}

    def state(self, layer):
        return layer[1]

    def load(self, layer, arrays):
        assert {name: x.shape for name, x in layer[1].items()} == {name: x.shape for name, x in arrays.items()}
        return layer[0], dict(arrays)

    def forward(self, layer, queries, keys, values):
        config, arrays = layer
        widths = [config.num_heads * config.head_dim] * 3
        options = {"domain": "com.microsoft", "num_heads": config.num_heads, "qkv_hidden_sizes": widths}
        node = helper.make_node("Attention", ["x", *arrays], ["context"], **options)
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in ("x", "context")]
        parameters = [numpy_helper.from_array(np.ascontiguousarray(x), name) for name, x in arrays.items()]
        graph = helper.make_graph([node], "layer", infos[:1], infos[1:], parameters)
        model = helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(["context"], {"x": queries})[0]
