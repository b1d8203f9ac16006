"""A trained BERT through the three, on real sentences: python docs/real_model.py [heads.png]. See real-model.md."""

import sys

import numpy as np

from shared_tests import layouts, show_heads
from shared_tests.cases.case import Trial
from shared_tests.cases.minilm import HEADS, LAYERS, folder
from shared_tests.cases.table import MINILM
from shared_tests.frameworks import OURS
from shared_tests.harness import oracle
from shared_tests.harness.compare import within_gate
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Expected
from shared_tests.layouts.files import open_weights
from shared_tests.subjects._minilm import MiniLM, lengths, of_subject

SENTENCES = [
    "The animal didn't cross the street because it was too tired.",
    "Attention is all you need.",
    "Twelve heads read every word, and each of them looks elsewhere.",
]


def judged(weights, x, valid_lens):
    """What the oracle says of one layer in float64, with the noise of each element."""
    parameters = {name: array.astype(np.float64) for name, array in weights.items()}
    trial = Trial("real", MINILM, "float64", parameters, x, x, x, valid_lens, np.zeros_like(x))
    return oracle.forward(trial)["output"]


def outputs(name, weights, inputs, valid_lens):
    """What each layer of a subject makes of what Hugging Face's was given."""
    subject = find(name)
    models = [subject.build(MINILM, own, "float64") for own in weights]
    return [subject.forward(model, x, x, x, valid_lens)[0] for model, x in zip(models, inputs, strict=True)]


def main(path="heads.png"):
    model = MiniLM()
    tokens = model.tokens(SENTENCES)
    valid_lens = lengths(tokens).numpy()
    arrays = open_weights(folder() / "model.safetensors").arrays
    weights = [layouts.from_("bert", arrays, prefix=f"encoder.layer.{i}.attention") for i in range(LAYERS)]
    theirs = model.run(tokens)
    truth = [judged(own, x, valid_lens) for own, x in zip(weights, theirs.inputs, strict=True)]
    rows = [[within_gate(output, right) for output, right in zip(theirs.outputs, truth, strict=True)]]
    expected = [Expected(output, right.sigma) for output, right in zip(theirs.outputs, truth, strict=True)]
    for name in OURS:
        answers = outputs(name, weights, theirs.inputs, valid_lens)
        rows.append([within_gate(answer, output) for answer, output in zip(answers, expected, strict=True)])
    print("layer  Hugging Face", *OURS, sep="  ")
    for i, verdicts in enumerate(zip(*rows, strict=True)):
        print(f"{i:5}  {verdicts[0].worst:11.2f}σ", *(f"{verdict.worst:8.2f}σ " for verdict in verdicts[1:]))
    same = []
    for name in OURS:
        ours = model.run(tokens, [of_subject(find(name), MINILM, own) for own in weights])
        same.append((ours.embeddings.astype(np.float32) == theirs.embeddings.astype(np.float32)).all())
        seen = "none" if same[-1] else "some"
        apart = f"{np.abs(ours.embeddings - theirs.embeddings).max():.1e} at most, {seen} of it seen in float32"
        print(f"{name}: the sentences' embeddings are apart from Hugging Face's by {apart}")
    words = slice(valid_lens[0])  # of the first sentence, without padding
    heads = np.stack(ours.attention_weights)[:, 0, :, words, words]
    figure = show_heads(heads, row_labels=[f"Layer {i + 1}" for i in range(LAYERS)])
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print(f"{path}: {LAYERS} layers of {HEADS} heads")
    held = all(same) and all(verdict.holds for row in rows for verdict in row)
    print("HOLDS" if held else "FAILS", f"{sum(v.compared for row in rows for v in row):,} comparisons")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
