"""The book's layer in Paddle, whose linear layers have PyTorch's names and the other orientation."""

import numpy as np
import paddle
from paddle import nn

from shared_tests.subjects._layers import OthersLayer


class MultiHeadAttention(nn.Layer):
    """As the book has it, without lengths and dropout."""

    def __init__(self, config):
        super().__init__()
        self.num_heads, width = config.num_heads, config.num_heads * config.head_dim
        bias = None if config.bias else False
        self.W_q = nn.Linear(config.query_size, width, bias_attr=bias)
        self.W_k = nn.Linear(config.key_size, width, bias_attr=bias)
        self.W_v = nn.Linear(config.value_size, width, bias_attr=bias)
        self.W_o = nn.Linear(width, config.num_hiddens, bias_attr=bias)

    def split(self, x):
        return x.reshape((*x.shape[:2], self.num_heads, -1)).transpose((0, 2, 1, 3))

    def forward(self, queries, keys, values):
        queries, keys, values = map(self.split, (self.W_q(queries), self.W_k(keys), self.W_v(values)))
        scores = paddle.matmul(queries, keys, transpose_y=True) / queries.shape[-1] ** 0.5
        context = paddle.matmul(nn.functional.softmax(scores, axis=-1), values).transpose((0, 2, 1, 3))
        return self.W_o(context.reshape((*context.shape[:2], -1)))


class Book(OthersLayer):
    def build(self, config):
        layer, random = MultiHeadAttention(config), np.random.default_rng(0)
        drawn = {name: random.normal(scale=0.3, size=x.shape).astype("f4") for name, x in self.state(layer).items()}
        return self.load(layer, drawn)

    def state(self, layer):
        return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}

    def load(self, layer, arrays):
        missing, unexpected = layer.set_state_dict({name: paddle.to_tensor(x) for name, x in arrays.items()})
        assert not [*missing, *unexpected], (missing, unexpected)
        return layer

    def forward(self, layer, queries, keys, values):
        return layer(*map(paddle.to_tensor, (queries, keys, values))).numpy()
