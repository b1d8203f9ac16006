"""The trained BERT of `cases.minilm` as Hugging Face runs it, with layers of attention of any kind in its place."""

import os
from contextlib import contextmanager
from dataclasses import dataclass

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported; all that is needed is installed

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel
from transformers.utils import logging

from shared_tests.cases.minilm import folder, missing

logging.disable_progress_bar()  # of loading weights, which takes no time
SCALE = 20
"""Of cosines in the contrastive loss, as Sentence Transformers has it."""


@dataclass(frozen=True)
class Run:
    """What the model made of sentences, as NumPy arrays; lists are by layer, the one that comes first first."""

    embeddings: np.ndarray
    """(sentences, hidden): the mean over the tokens of each sentence, of length 1."""
    inputs: list[np.ndarray]
    """What each layer's attention was given: (sentences, length, hidden)."""
    outputs: list[np.ndarray]
    """What it gave, W_o included: (sentences, length, hidden)."""
    attention_weights: list[np.ndarray]
    """(sentences, heads, length, length)."""


class MiniLM:
    """The model in float64.

        model = MiniLM()
        tokens = model.tokens(["Attention is all you need."])
        run = model.run(tokens)
        run = model.run(tokens, attend)

    attend: for each layer a function (x, valid_lens) -> (output, attention weights) on tensors, taken in the place of
    BERT's own attention and its output projection. `of_subject` makes one of a subject in any framework; with a layer
    of PyTorch, `lambda x, lengths: layer(x, x, x, lengths, need_weights=True)`, `embed` has gradients.
    """

    def __init__(self):
        if folder() is None:
            raise missing()
        self.bert = BertModel.from_pretrained(folder(), dtype=torch.float64, attn_implementation="eager").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder())

    def tokens(self, sentences):
        """The sentences as numbers, padded to the longest: what `run` and `embed` take."""
        return self.tokenizer(sentences, padding=True, return_tensors="pt")

    def words(self, tokens):
        """The tokens of each sentence, as texts."""
        return [self.tokenizer.convert_ids_to_tokens(ids) for ids in tokens["input_ids"]]

    def embed(self, tokens, attend=None):
        """The embeddings (sentences, hidden), as a tensor."""
        mask = tokens["attention_mask"]
        with self._swapped(attend, lengths(tokens)):
            hidden = self.bert(**tokens).last_hidden_state
        return torch.nn.functional.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    @torch.no_grad()
    def run(self, tokens, attend=None):
        """Embeddings, and what went through each layer's attention, as a `Run`."""
        with self._swapped(attend, lengths(tokens)), self._recorded() as found:
            embeddings = self.embed(tokens)
        return Run(embeddings.numpy(), **{name: [x.numpy() for x in tensors] for name, tensors in found.items()})

    @torch.no_grad()
    def losses(self, tokens, groups, attend=None):
        """The `contrastive` loss of each pair, (pairs,).

        tokens: of each group the first sentences of all its pairs, then the second; groups are of one size.
        """
        first, second = self.embed(tokens, attend).unflatten(0, (groups, 2, -1)).unbind(1)
        return contrastive(first, second).flatten().numpy()

    def slopes(self, tokens):
        """For the loss of each pair of one group its gradient by what each layer's attention gave.

        (pairs, layers, sentences, length, hidden)
        """
        with self._recorded() as found:
            losses = contrastive(*self.embed(tokens).chunk(2))
        slopes = [torch.autograd.grad(loss, found["outputs"], retain_graph=True) for loss in losses]
        return np.array([[slope.numpy() for slope in of_layers] for of_layers in slopes])

    @contextmanager
    def _recorded(self):
        """What goes through each layer's attention meanwhile, by the names of `Run`."""
        found = {"inputs": [], "attention_weights": [], "outputs": []}
        hooks = [hook for layer in self.bert.encoder.layer for hook in _recording(layer.attention, found)]
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _swapped(self, attend, valid_lens):
        """Puts attention of ours into the layers, and BERT's own back at the end."""
        attentions = [layer.attention for layer in self.bert.encoder.layer] if attend is not None else []
        own = [(attention.self, attention.output.dense) for attention in attentions]
        try:
            for attention, function in zip(attentions, attend or (), strict=True):
                attention.self, attention.output.dense = Swapped(function, valid_lens), torch.nn.Identity()
            yield
        finally:
            for attention, modules in zip(attentions, own, strict=True):
                attention.self, attention.output.dense = modules


class Swapped(torch.nn.Module):
    """In the place of BERT's own attention."""

    def __init__(self, function, valid_lens):
        super().__init__()
        self.function, self.valid_lens = function, valid_lens

    def forward(self, x, *_, **__):
        return self.function(x, self.valid_lens)


def lengths(tokens):
    """(sentences,): how many tokens of each are no padding."""
    return tokens["attention_mask"].sum(1)


def of_subject(subject, config, weights, dtype="float64"):
    """The attention of a subject with these canonical weights, as `MiniLM` takes it; it has no gradients."""
    return of_model(subject, subject.build(config, weights, dtype))


def of_model(subject, model):
    """The same of a model that the subject has built."""

    def attend(x, valid_lens):
        x = x.numpy()
        output, attention_weights = subject.forward(model, x, x, x, valid_lens.numpy())
        return torch.tensor(output), torch.tensor(attention_weights)

    return attend


def contrastive(first, second):
    """How little each pair of embeddings is told from the others: (…, pairs), of two (…, pairs, hidden).

    The cross entropy, both ways, of finding the other of a pair by the cosine between embeddings, times SCALE: the
    loss that sentence embeddings are trained with (Henderson et al. 2017, section 4.4, with cosines).
    """
    scores = SCALE * first @ second.mT
    return -(scores.log_softmax(-1) + scores.log_softmax(-2)).diagonal(dim1=-2, dim2=-1) / 2


def _recording(attention, found):
    """Hooks that keep what goes into and comes out of one layer's attention."""
    return [
        attention.self.register_forward_pre_hook(lambda _, given: found["inputs"].append(given[0])),
        attention.self.register_forward_hook(lambda *call: found["attention_weights"].append(call[2][1])),
        attention.output.dense.register_forward_hook(lambda *call: found["outputs"].append(call[2])),
    ]
