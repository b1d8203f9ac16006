"""Trains the digits classifier and writes the two goldens: its attention weights, and images it never saw.

Run again with `python -m shared_tests.goldens.train_digits`; any of the three packages will do. Needs
scikit-learn, whose bundled handwritten digits it reads (E. Alpaydin and C. Kaynak, 1998, UCI).
"""

from collections import deque
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.datasets import load_digits

from shared_tests.cases.case import as_rows
from shared_tests.cases.table import DIGITS
from shared_tests.harness.find import find
from shared_tests.harness.training import batches, initial_parameters
from shared_tests.storage import write_arrays

HELD_OUT = 360
EPOCHS, BATCH_SIZE, RATE = 60, 64, 0.01


def main(
    subject: Annotated[str, typer.Option(help="Which package trains.")] = "torch_impl",
    folder: Annotated[Path, typer.Option(help="Where the two files go.")] = Path(__file__).parent,
) -> None:
    """Train the digits classifier, print its accuracy on held-out images, write its weights and those images."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    held_out, seen = order[:HELD_OUT], order[HELD_OUT:]
    rows, labels = as_rows(digits.images), digits.target
    trainer, weights = find(subject), initial_parameters()
    steps = trainer.train(
        DIGITS, weights, batches(rows[seen], labels[seen], BATCH_SIZE, EPOCHS), "adam", RATE, "float32"
    )
    loss, weights = deque(steps, maxlen=1).pop()
    head = weights.pop("head.weight"), weights.pop("head.bias")
    model = trainer.build(DIGITS, weights, "float32")
    x = rows[held_out].astype(np.float32)
    output, _ = trainer.forward(model, x, x, x, None)
    accuracy = np.mean((output.mean(axis=1) @ head[0].T + head[1]).argmax(axis=1) == labels[held_out])
    print(f"trained with {subject}: last loss {loss:.4f}, accuracy on {HELD_OUT} held-out images {accuracy:.1%}")
    write_arrays(folder / "digits.safetensors", weights)
    images, answers = digits.images[held_out].astype(np.uint8), labels[held_out].astype(np.uint8)
    write_arrays(folder / "digits_held_out.safetensors", {"images": images, "labels": answers})


if __name__ == "__main__":
    typer.run(main)
