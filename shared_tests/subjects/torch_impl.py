"""`torch_impl` as a subject."""

import torch
from torch import nn
from torch.nn import functional

import torch_impl
from shared_tests.harness.subject import WEIGHTLESS, Implementation
from shared_tests.harness.training import BETAS, EPSILON


class TorchImpl(Implementation):
    name = "torch_impl"
    package = torch_impl

    def make(self, name, *arguments, dtype="float32", **options):
        if name not in WEIGHTLESS:
            options["dtype"] = getattr(torch, dtype)
        return getattr(torch_impl, name)(*arguments, **options).eval()

    def with_mask(self, model, keep):
        layer, dtype = model
        layer.attention.dropout = Mask(self.tensor(keep, dtype).flatten(0, 1))
        return layer.train(), dtype

    def reseed(self, layer):
        torch.manual_seed(0)

    def training(self, layer):
        return layer.train()

    def tensor(self, array, dtype):
        tensor = torch.tensor(array)
        return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor

    def array(self, tensor):
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

    def compiled(self, function, *arrays, dtype):
        return torch.compile(function, fullgraph=True)

    def compiled_loosely(self, function):
        return torch.compile(function)  # with fullgraph=True, Dynamo wraps an error in its own

    def restored(self, layer, *arrays, dtype, folder):
        tensors = tuple(self.tensor(x, dtype) for x in arrays)
        free = torch.export.Dim.DYNAMIC
        shapes = tuple({0: free, 1: free} if x.ndim > 1 else {0: free} for x in tensors)
        torch.export.save(torch.export.export(layer, tensors, dynamic_shapes=shapes), folder / "layer.pt2")
        return torch.export.load(folder / "layer.pt2").module()

    def gradients(self, model, queries, keys, values, valid_lens, cotangent):
        layer, dtype = model
        inputs = [self.tensor(x, dtype).requires_grad_() for x in (queries, keys, values)]
        output = layer(*inputs, None if valid_lens is None else self.tensor(valid_lens, dtype))
        names, parameters = zip(*layer.named_parameters(), strict=True)
        gradients = torch.autograd.grad(output, (*inputs, *parameters), self.tensor(cotangent, dtype))
        names = ("queries", "keys", "values", *names)
        return {name: self.array(gradient) for name, gradient in zip(names, gradients, strict=True)}

    def train(self, config, weights, batches, optimizer, rate, dtype):
        head = [nn.Parameter(self.tensor(weights[f"head.{name}"], dtype)) for name in ("weight", "bias")]
        layer, _ = self.build(config, {name: w for name, w in weights.items() if "head" not in name}, dtype)
        parameters = [*layer.parameters(), *head]
        if optimizer == "sgd":
            update = torch.optim.SGD(parameters, rate)
        else:
            update = torch.optim.Adam(parameters, rate, betas=BETAS, eps=EPSILON)
        for rows, labels in batches:
            x = self.tensor(rows, dtype)
            logits = functional.linear(layer(x, x, x).mean(dim=1), *head)
            loss = functional.cross_entropy(logits, torch.tensor(labels))
            update.zero_grad()
            loss.backward()
            update.step()
            weight, bias = map(self.array, head)
            yield (
                loss.item(),
                torch_impl.export_weights(layer) | {"head.weight": weight.copy(), "head.bias": bias.copy()},
            )

    def timed(self, layer, x, valid_lens, need_weights, training):
        x, valid_lens = torch.tensor(x, requires_grad=training), torch.tensor(valid_lens)
        inputs = x, *layer.parameters()

        def forward():
            with torch.no_grad():
                layer(x, x, x, valid_lens, need_weights=need_weights)

        def step():
            torch.autograd.grad(layer(x, x, x, valid_lens).sum(), inputs)

        return step if training else forward

    def product(self, size):
        matrix = torch.rand(size, size)
        return lambda: matrix @ matrix

    def settings(self):
        return {
            "devices": ", ".join(["cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]),
            "threads": torch.get_num_threads(),
            "float32 products": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }


class Mask(nn.Module):
    """Dropout that keeps what it is told to."""

    def __init__(self, keep):
        super().__init__()
        self.keep = keep

    def forward(self, weights):
        return weights * self.keep
