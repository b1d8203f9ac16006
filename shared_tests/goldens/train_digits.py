"""Trains the digits classifier and writes the goldens: its weights with 4 heads and with 8, and images it never saw.

Run again with `python -m shared_tests.goldens.train_digits`; any of the three packages will do. Needs
scikit-learn, whose bundled handwritten digits it reads (E. Alpaydin and C. Kaynak, 1998, UCI).
"""

from collections import deque
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.datasets import load_digits

from shared_tests.cases.case import Config, as_rows
from shared_tests.cases.table import DIGITS, DIGITS_8_HEADS
from shared_tests.harness.find import find
from shared_tests.harness.rounding import Array
from shared_tests.harness.training import batches, initial_parameters
from shared_tests.storage import write_arrays

HELD_OUT = 360
EPOCHS, BATCH_SIZE, RATE = 60, 64, 0.01
Examples = tuple[Array, Array]
"""Rows (images, 8, 16), or images (images, 8, 8), and labels (images,)."""


def main(
    subject: Annotated[str, typer.Option(help="Which package trains.")] = "torch_impl",
    folder: Annotated[Path, typer.Option(help="Where the files go.")] = Path(__file__).parent,
    heads: Annotated[list[int] | None, typer.Option(help="4 or 8. Repeat for both, which is the default.")] = None,
) -> None:
    """Train digits classifiers, print their accuracy on held-out images, write their weights and those images."""
    images, answers = split(load_digits().images)[1]
    held_out = {"images": images.astype(np.uint8), "labels": answers.astype(np.uint8)}
    write_arrays(folder / "digits_held_out.safetensors", held_out)
    for number in heads or (4, 8):
        weights, head = train(subject, {4: DIGITS, 8: DIGITS_8_HEADS}[number], (as_rows(images), answers))
        if number == 4:
            write_arrays(folder / "digits.safetensors", weights)
        else:
            write_arrays(folder / "digits_8_heads.safetensors", weights | head)


def train(subject: str, config: Config, held_out: Examples) -> tuple[dict[str, Array], dict[str, Array]]:
    """The weights of the layer, and of the classifier's head."""
    trainer, given = find(subject), batches(*seen(), BATCH_SIZE, EPOCHS)
    steps = trainer.train(config, initial_parameters(), given, "adam", RATE, "float32")
    loss, weights = deque(steps, maxlen=1).pop()
    head = {name: weights.pop(name) for name in ("head.weight", "head.bias")}
    x = held_out[0].astype(np.float32)
    output, _ = trainer.forward(trainer.build(config, weights, "float32"), x, x, x, None)
    found = (output.mean(axis=1) @ head["head.weight"].T + head["head.bias"]).argmax(axis=1)
    accuracy = f"accuracy on {HELD_OUT} held-out images {np.mean(found == held_out[1]):.1%}"
    print(f"{config.num_heads} heads trained with {subject}: last loss {loss:.4f}, {accuracy}")
    return weights, head


def seen() -> Examples:
    """The rows and labels that the classifiers are trained on."""
    return split(as_rows(load_digits().images))[0]


def split(images: Array) -> tuple[Examples, Examples]:
    """Those to train on, with their labels, and those held out."""
    labels, order = load_digits().target, np.random.default_rng(0).permutation(len(images))
    held_out, seen = order[:HELD_OUT], order[HELD_OUT:]
    return (images[seen], labels[seen]), (images[held_out], labels[held_out])


if __name__ == "__main__":
    typer.run(main)
