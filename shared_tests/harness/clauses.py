"""The clauses of docs/contract.md that the judge checks, in the order of its table."""

CLAUSES = {
    "1.1": "shapes and dtypes",
    "1.4": "asking for weights changes no bit",
    "2.1": "output",
    "2.2": "attention weights",
    "2.3": "every pair, as float32: same bits",
    "2.4": "attention weights sum to 1",
    "2.5": "every stage",
    "3.1": "masked keys: weight exactly 0",
    "3.2": "no valid key: uniform or claimed",
    "3.4": "garbage in padding changes no bit",
    "3.5": "masked keys: gradient exactly 0",
    "4.1": "gradients of inputs",
    "4.2": "gradients of parameters",
    "5.1": "parameters: round trip, same bits",
    "6": "bad inputs refused, same words",
    "7.1": "nothing given is written to",
    "7.2": "same bits when run again",
    "7.7": "calls and models keep apart",
    "7.8": "int32 lengths, inputs with strides",
    "8.1": "training, 20 steps, float64",
    "8.2": "training, 20 steps, float32",
    "8.3": "dropout with one mask",
    "10.1": "importance of heads",
    "10.2": "pruned: as with gates at 0",
}
RAISES = "raises"
"""Stands where a clause does in a finding that is an error of the port: what it raised, and where."""
ASKED_OF_RIGHT_OUTPUTS = ("7.8",)
"""The clauses that are asked only where 2.1 holds: a wrong output would fail them, too."""
CAPABILITIES = {
    "1.4": "forward_alone",
    "2.5": "stages",
    "3.5": "gradients",
    "4.1": "gradients",
    "4.2": "gradients",
    "5.1": "export_weights",
    "6": "callable",
    "8.1": "train",
    "8.2": "train",
    "8.3": "with_mask",
    "10.1": "head_importance",
    "10.2": "prune_heads",
}
"""The method without which a subject cannot be asked a clause."""


def link(clause: str) -> str:
    """A clause as a link to its sentence in the contract, in the Markdown of a page beside it."""
    return f"[{clause}](contract.md#clause-{clause.replace('.', '-')})"
