"""`jax_impl` as a subject."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jax_impl
from shared_tests.harness.implementation import PARAMETERLESS, Implementation
from shared_tests.harness.training import BETAS, EPSILON
from shared_tests.subjects._jax import Jax


class JaxImpl(Implementation):
    framework = Jax
    name = "jax_impl"
    package = jax_impl
    keeps_weights = False

    def make(self, name, *arguments, dtype="float32", **options):
        if name not in PARAMETERLESS:
            options["param_dtype"] = jnp.dtype(dtype)
        with self.backend.numbers(dtype):
            layer = getattr(jax_impl, name)(*arguments, rngs=nnx.Rngs(0), **options)
        layer.eval()
        return layer

    def blank(self, config, dtype, *scoring):
        # Only shapes: to draw initial numbers would be to compile.
        with self.backend.numbers(dtype):
            layer = nnx.eval_shape(lambda: super(JaxImpl, self).blank(config, dtype, *scoring))
            nnx.update(layer, jax.tree.map(_zeros, nnx.state(layer)))
        return layer

    def with_mask(self, model, keep):
        layer, dtype = model
        with self.backend.numbers(dtype):
            layer.attention.dropout = Mask(self.backend.tensor(keep.reshape(-1, *keep.shape[2:]), dtype))
        layer.train()
        return layer, dtype

    def reseed(self, layer):
        layer.attention.dropout.rngs = nnx.Rngs(0).dropout.fork()

    def training(self, layer):
        layer.train()
        return layer

    def forward(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(_forward, layer, queries, keys, values, valid_lens, dtype=dtype)

    def forward_alone(self, model, queries, keys, values, valid_lens):
        layer, dtype = model
        return self.backend.run(_forward_alone, layer, queries, keys, values, valid_lens, dtype=dtype)

    walk = jax.jit(Implementation.walk, static_argnums=0)

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        arrays = queries, keys, values, valid_lens, cotangent
        with self.backend.numbers(dtype):
            tensors = [None if x is None else self.backend.tensor(x, dtype) for x in arrays]
            gradients, inputs = _gradients(layer, *tensors)
            inputs = dict(zip(("queries", "keys", "values"), map(self.backend.array, inputs), strict=True))
            return inputs | jax_impl.export_weights(gradients)

    weighted_sum = staticmethod(jax.jit(Implementation.weighted_sum))

    def train(self, config, weights, batches, optimizer, rate, dtype):
        with self.backend.numbers(dtype):
            head = [self.backend.tensor(weights[f"head.{name}"], dtype) for name in ("weight", "bias")]
            classifier = Classifier(*head)
            classifier.layer, _ = self.build(config, {n: w for n, w in weights.items() if "head" not in n}, dtype)
            rule = optax.sgd(rate) if optimizer == "sgd" else optax.adam(rate, *BETAS, eps=EPSILON)
            update = nnx.Optimizer(classifier, rule, wrt=nnx.Param)
        for rows, labels in batches:
            with self.backend.numbers(dtype):
                loss = _step(classifier, update, self.backend.tensor(rows, dtype), jnp.asarray(labels))
                head = {"head.weight": classifier.weight[...], "head.bias": classifier.bias[...]}
                trained = jax_impl.export_weights(classifier.layer)
                yield float(loss), trained | {name: self.backend.array(x) for name, x in head.items()}


def _zeros(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key(0) if is_key else jax.device_put(np.zeros(leaf.shape, leaf.dtype))


class Mask(nnx.Module):
    """Dropout that keeps what it is told to."""

    def __init__(self, keep):
        self.keep = nnx.Variable(keep)

    def __call__(self, weights, rngs):
        return weights * self.keep[...]


class Classifier(nnx.Module):
    def __init__(self, weight, bias):
        self.layer = nnx.data(None)
        self.weight, self.bias = nnx.Param(weight), nnx.Param(bias)

    def __call__(self, x):
        return self.layer(x, x, x).mean(axis=1) @ self.weight.T + self.bias


@nnx.jit
def _step(classifier, update, rows, labels):
    def loss(classifier):
        return optax.softmax_cross_entropy_with_integer_labels(classifier(rows), labels).mean()

    value, gradients = nnx.value_and_grad(loss)(classifier)
    update.update(classifier, gradients)
    return value


@jax.jit
def _forward(layer, queries, keys, values, valid_lens):
    return layer(queries, keys, values, valid_lens, need_weights=True)


@jax.jit
def _forward_alone(layer, queries, keys, values, valid_lens):
    return layer(queries, keys, values, valid_lens)


@jax.jit
def _gradients(layer, queries, keys, values, valid_lens, cotangent):
    """A layer whose parameters are the gradients, and the gradients of the inputs."""
    graph, parameters, rest = nnx.split(layer, nnx.Param, ...)

    def output(parameters, queries, keys, values):
        return nnx.merge(graph, parameters, rest, copy=True)(queries, keys, values, valid_lens)

    _, pull_back = jax.vjp(output, parameters, queries, keys, values)
    parameters, *inputs = pull_back(cotangent)
    return nnx.merge(graph, parameters, rest), inputs
