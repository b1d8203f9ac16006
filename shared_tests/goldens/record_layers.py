"""Records one small layer of each library that CI does not install: its state dict, its inputs and its outputs.

Run again with `python -m shared_tests.goldens.record_layers`, where transformers, timm, equinox, dm-haiku and
paddlepaddle are installed. What is missing is left as it was.
"""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from shared_tests.cases.case import Config
from shared_tests.storage import write_bytes
from shared_tests.studies.converted import draw_inputs
from shared_tests.tensors import encode

SQUARE = Config(16, 16, 16, 16, 4, bias=True)
WIDE = Config(16, 16, 16, 16, 2, head_dim=16)  # heads wider than hidden / heads
CROSS = Config(7, 5, 11, 9, 3, bias=True, head_dim=4)

RECORDED = {
    "book-paddle": ("book-paddle", "paddle:Book", CROSS),
    "book-paddle square": ("book-paddle", "paddle:Book", SQUARE),
    "bert": ("bert", "transformers:Bert", SQUARE),
    "distilbert": ("distilbert", "transformers:DistilBert", SQUARE),
    "vit-hf": ("vit-hf", "transformers:ViT", SQUARE),
    "gpt2": ("gpt2", "decoders:Gpt2", SQUARE),
    "gpt2-cross": ("gpt2-cross", "decoders:Gpt2Cross", SQUARE),
    "bigcode": ("bigcode", "decoders:BigCode", SQUARE),
    "bigcode multi-query": ("bigcode", "decoders:BigCodeMultiQuery", SQUARE),
    "neox": ("gpt-neox", "decoders:NeoX", SQUARE),
    "bloom": ("gpt-neox", "decoders:Bloom", SQUARE),
    "falcon": ("gpt-neox", "decoders:Falcon", SQUARE),
    "codegen": ("codegen", "decoders:CodeGen", Config(16, 16, 16, 16, 4)),
    "opt": ("opt", "transformers:Opt", SQUARE),
    "llama": ("llama", "decoders:Llama", WIDE),
    "llama grouped": ("llama", "decoders:LlamaGrouped", Config(16, 16, 16, 16, 4, bias=True)),
    "phi3": ("phi3", "decoders:Phi3", WIDE),
    "phi3 grouped": ("phi3", "decoders:Phi3Grouped", Config(16, 16, 16, 16, 4)),
    "t5": ("t5", "transformers:T5", Config(16, 16, 16, 16, 3, head_dim=4)),
    "vit-timm": ("vit-timm", "timm:ViT", SQUARE),
    "beit": ("beit", "timm:Beit", SQUARE),
    "equinox": ("equinox", "equinox:Equinox", CROSS),
    "haiku": ("haiku", "haiku:Haiku", CROSS),
}
"""Name -> its layout, the layer in shared_tests/subjects/_layers_*.py, and its sizes."""


def record(name: str) -> bytes:
    """The layer's arrays under "layer/", its inputs, its output, and in the metadata what a test must know."""
    layout, place, config = RECORDED[name]
    module, _, class_name = place.partition(":")
    others = getattr(importlib.import_module(f"shared_tests.subjects._layers_{module}"), class_name)()
    queries, keys, values = draw_inputs(config, others)
    layer = others.build(config)
    output = others.forward(layer, queries, keys, values)
    arrays = {f"layer/{part}": array for part, array in others.state(layer).items()}
    facts = {"layout": layout, "num_heads": str(config.num_heads), "head_dim": str(config.head_dim)}
    facts |= {"causal": str(others.causal), "scaled": str(others.scaled), "without": others.without}
    return encode(arrays | {"queries": queries, "keys": keys, "values": values, "output": output}, facts)


def main(
    folder: Annotated[Path, typer.Option(help="Where the files go.")] = Path(__file__).parent / "layers",
    only: Annotated[list[str] | None, typer.Option(help="Names to record. Default: all.")] = None,
) -> None:
    """Record a layer of each library that is installed."""
    folder.mkdir(exist_ok=True)
    for name in only or RECORDED:
        try:
            write_bytes(folder / f"{name.replace(' ', '_')}.safetensors", record(name))
        except ModuleNotFoundError as error:
            print(f"{name}: left as it was ({error})")


if __name__ == "__main__":
    typer.run(main)
