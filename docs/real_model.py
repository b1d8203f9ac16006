"""A trained BERT through the three, on real sentences: python docs/real_model.py [heads.png]. See real-model.md."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # all that is needed is in the package

import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import AutoTokenizer, BertModel

from shared_tests import layouts
from shared_tests.cases.case import Config, Trial
from shared_tests.cases.minilm import HEADS, HIDDEN, LAYERS, folder
from shared_tests.frameworks import OURS
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Expected
from shared_tests.layouts.files import open_weights

SENTENCES = [
    "The animal didn't cross the street because it was too tired.",
    "Attention is all you need.",
    "Twelve heads read every word, and each of them looks elsewhere.",
]
CONFIG = Config(HIDDEN, HIDDEN, HIDDEN, HIDDEN, HEADS, bias=True)


class Swapped(torch.nn.Module):
    """In the place of BERT's own attention and its output projection: a layer of ours, in any framework."""

    def __init__(self, subject, weights, lengths):
        super().__init__()
        self.subject, self.lengths, self.model = subject, lengths, subject.build(CONFIG, weights, "float64")

    def forward(self, hidden, *_, **__):
        x = hidden.numpy()
        output, self.attention_weights = self.subject.forward(self.model, x, x, x, self.lengths)
        return torch.tensor(output), None


def embed(bert, tokens):
    """The sentences' embeddings: the mean over their words, of length 1."""
    words = tokens["attention_mask"][..., None]
    mean = (bert(**tokens).last_hidden_state * words).sum(1) / words.sum(1)
    return torch.nn.functional.normalize(mean).numpy()


def record(bert, tokens):
    """Runs Hugging Face's model: the embeddings, and what each layer's attention was given and gave."""
    given, gave = [], []
    for layer in bert.encoder.layer:
        layer.attention.self.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].numpy()))
        layer.attention.output.dense.register_forward_hook(lambda *call: gave.append(call[2].numpy()))
    return embed(bert, tokens), given, gave


def judged(weights, x, lengths):
    """What the oracle says of one layer in float64, with the noise of each element."""
    parameters = {name: array.astype(np.float64) for name, array in weights.items()}
    trial = Trial("real", CONFIG, "float64", parameters, x, x, x, lengths, np.zeros_like(x))
    return oracle.forward(trial)["output"]


def swap(bert, subject, weights, lengths):
    """Gives every layer of BERT our attention."""
    for layer, own in zip(bert.encoder.layer, weights, strict=True):
        layer.attention.self, layer.attention.output.dense = Swapped(subject, own, lengths), torch.nn.Identity()
    return bert


def load():
    return BertModel.from_pretrained(folder(), dtype=torch.float64, attn_implementation="eager").eval()


def draw(path, words, layers):
    """Heatmaps of the first sentence: a row for each layer, a column for each head."""
    figure = Figure(figsize=(HEADS, LAYERS), layout="constrained")
    for axis, (layer, head) in zip(figure.subplots(LAYERS, HEADS).flat, np.ndindex(LAYERS, HEADS), strict=True):
        axis.imshow(layers[layer].attention.self.attention_weights[0, head, :words, :words], vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(SENTENCES[0])
    figure.savefig(path, dpi=80)


@torch.no_grad()
def main(path="heads.png"):
    tokens = AutoTokenizer.from_pretrained(folder())(SENTENCES, padding=True, return_tensors="pt")
    lengths = tokens["attention_mask"].sum(1).numpy()
    arrays = open_weights(folder() / "model.safetensors").arrays
    weights = [layouts.from_("bert", arrays, prefix=f"encoder.layer.{i}.attention") for i in range(LAYERS)]
    embedding, given, gave = record(load(), tokens)
    truth = [judged(own, x, lengths) for own, x in zip(weights, given, strict=True)]
    theirs = [Expected(output, right.sigma) for output, right in zip(gave, truth, strict=True)]
    rows = [[within_gate(output, right) for output, right in zip(gave, truth, strict=True)]]
    for name in OURS:
        subject = find(name)
        models = [subject.build(CONFIG, own, "float64") for own in weights]
        answers = [subject.forward(model, x, x, x, lengths)[0] for model, x in zip(models, given, strict=True)]
        rows.append([within_gate(answer, output) for answer, output in zip(answers, theirs, strict=True)])
    print("layer  Hugging Face", *OURS, sep="  ")
    for i, verdicts in enumerate(zip(*rows, strict=True)):
        print(f"{i:5}  {verdicts[0].worst:11.2f}σ", *(f"{verdict.worst:8.2f}σ " for verdict in verdicts[1:]))
    same = []
    for name in OURS:
        bert = swap(load(), find(name), weights, lengths)
        found = embed(bert, tokens)
        same.append((found.astype(np.float32) == embedding.astype(np.float32)).all())
        apart = f"{np.abs(found - embedding).max():.1e} at most, {'none' if same[-1] else 'some'} of it seen in float32"
        print(f"{name}: the sentences' embeddings are apart from Hugging Face's by {apart}")
    draw(path, lengths[0], bert.encoder.layer)
    print(f"{path}: {LAYERS} layers of {HEADS} heads")
    held = all(same) and all(verdict.holds for row in rows for verdict in row)
    print("HOLDS" if held else "FAILS", f"{sum(v.compared for row in rows for v in row):,} comparisons")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
