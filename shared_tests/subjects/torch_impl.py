"""`torch_impl` as a subject."""

import torch
from torch import nn
from torch.nn import functional

import torch_impl
from shared_tests.harness.implementation import PARAMETERLESS, Implementation
from shared_tests.harness.training import BETAS, EPSILON
from shared_tests.subjects._torch import Torch


class TorchImpl(Implementation):
    framework = Torch
    name = "torch_impl"
    package = torch_impl

    def make(self, name, *arguments, dtype="float32", **options):
        if name not in PARAMETERLESS:
            options |= {"device": self.backend.where, "dtype": getattr(torch, dtype)}
        return getattr(torch_impl, name)(*arguments, **options).eval()

    def with_mask(self, model, keep):
        layer, dtype = model
        layer.attention.dropout = Mask(self.backend.tensor(keep, dtype).flatten(0, 1))
        return layer.train(), dtype

    def reseed(self, layer):
        torch.manual_seed(0)

    def training(self, layer):
        return layer.train()

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        inputs = [self.backend.tensor(x, dtype).requires_grad_() for x in (queries, keys, values)]
        output = layer(*inputs, None if valid_lens is None else self.backend.tensor(valid_lens, dtype))
        names, parameters = zip(*layer.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output, (*inputs, *parameters), self.backend.tensor(cotangent, dtype))
        names = ("queries", "keys", "values", *names)
        return {name: self.backend.array(gradient) for name, gradient in zip(names, gradients, strict=True)}

    def train(self, config, weights, batches, optimizer, rate, dtype):
        head = [nn.Parameter(self.backend.tensor(weights[f"head.{name}"], dtype)) for name in ("weight", "bias")]
        layer, _ = self.build(config, {name: w for name, w in weights.items() if "head" not in name}, dtype)
        parameters = [*layer.parameters(), *head]
        if optimizer == "sgd":
            update = torch.optim.SGD(parameters, rate)
        else:
            update = torch.optim.Adam(parameters, rate, betas=BETAS, eps=EPSILON)
        for rows, labels in batches:
            x = self.backend.tensor(rows, dtype)
            logits = functional.linear(layer(x, x, x).mean(dim=1), *head)
            loss = functional.cross_entropy(logits, torch.tensor(labels, device=self.backend.where))
            update.zero_grad()
            loss.backward()
            update.step()
            weight, bias = map(self.backend.array, head)
            yield (
                loss.item(),
                torch_impl.export_weights(layer) | {"head.weight": weight.copy(), "head.bias": bias.copy()},
            )


class Mask(nn.Module):
    """Dropout that keeps what it is told to."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, weights):
        return weights * self.keep
