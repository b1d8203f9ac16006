"""The example of the page of heads runs: importance and pruning of a layer inside a model."""

from pathlib import Path

import numpy as np

PAGE = (Path(__file__).parents[2] / "docs" / "heads.md").read_text()


def test_a_layer_inside_a_model_is_weighed_and_pruned():
    first = "from jax_impl import MultiHeadAttention, head_importance"
    block = next(block for block in PAGE.split("```python\n") if first in block)
    names = {}
    exec(block.split("```")[0], names)
    assert names["importance"].shape == (8,)
    assert names["importance"].min() > 0
    model, x = names["model"], names["x"]
    assert model.attention.num_heads == 7
    assert np.isfinite(model(x)).all()
