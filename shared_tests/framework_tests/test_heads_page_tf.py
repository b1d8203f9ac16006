"""The example of the page of heads runs: importance and pruning of a layer inside a model."""

from pathlib import Path

import numpy as np

PAGE = (Path(__file__).parents[2] / "docs" / "heads.md").read_text()


def test_a_layer_inside_a_model_is_weighed_and_pruned():
    first = "from tf_impl import MultiHeadAttention, head_importance"
    block = next(block for block in PAGE.split("```python\n") if first in block)
    names = {}
    exec(block.split("```")[0], names)
    assert names["importance"].shape == (8,)
    assert names["importance"].min() > 0
    whole, pruned = names["model"], names["pruned"]
    attention, rest = names["attention"], names["pruned_attention"]
    assert (attention.num_heads, rest.num_heads) == (8, 7)
    assert rest in pruned.layers
    assert pruned.layers[-1] is whole.layers[-1]  # other layers are shared, as the page says
    kernel = attention.W_o.kernel.numpy().reshape(8, 8, 64)
    kernel[names["importance"].argmin()] = 0
    attention.W_o.kernel.assign(kernel.reshape(64, 64))
    np.testing.assert_allclose(pruned(names["x"]), whole(names["x"]), rtol=0, atol=1e-5)
