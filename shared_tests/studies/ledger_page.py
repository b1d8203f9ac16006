"""The page of the ledger, of the summaries that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared_tests.frameworks import FRAMEWORKS
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.report import in_words
from shared_tests.studies.drift import in_sigma, in_units

Summary = dict[str, Any]
"""As the files in docs/ledger have it; `studies.ledger.summary` makes it."""
MODULES = tuple(module for framework in FRAMEWORKS for module in framework.modules if module != "optax")
HEAD = """# Releases that were tried

Written by `make ledger`, which anyone can run again: it sets up each environment of
[environments.toml](ledger/environments.toml), judges the implementations in it (`trihead verify`), records their
answers (`trihead record`) and compares them with those of the pinned releases on the same machine (`trihead drift`).
`make ledger ROWS="jax-0.8.0"` makes one row anew; `python3.11` and `python3.13` must be on the PATH. What is kept of
each, every release, clause and cause, is in `docs/ledger`.

*Moved* are numbers that are not the same bits as with the pinned releases; *furthest* is how far, in σ
([rounding.md](rounding.md)) and in units in the last place of the number's format.

Beside the rows, on 2026-11-24, the whole suite ran at both ends, and part of it under Python 3.12:

- **The lower ends** of `pyproject.toml` (Python 3.11, torch 2.13, jax 0.8, flax 0.12, tensorflow 2.19, keras 3.10,
  numpy 2.0.2, jaxtyping 0.3, packaging 24, platformdirs 4, rich 14.3, typer 0.16.1): every test of the three packages
  and of the judge passes. Eight others fail, of other people's releases: flax has `nnx.capture` and `num_kv_heads`
  since 0.12.6, and without them three tests of `nnx_builtin` and one of a layout fail; keras has `use_gate` since
  3.14, which a layout is tested with; flax 0.12.0 warns under jax 0.8 when it is imported (`jax.array_ref`), which
  the suite takes for an error three times. `typer.testing` of typer 0.16 warns under click 8.5, so the tests that
  call it ran with click 8.1.8. typer 0.12.5 fails with click 8.5; rich 14.1 begins an error with an empty line. torch
  before 2.13 was not tried.
- **The newest** (Python 3.13.0, torch 2.14.1, jax 0.12.0.1, flax 0.12.12, tensorflow 2.21.0, keras 3.15.1, numpy
  2.5.5): 3,344 tests pass, 25 fail. Twenty-two are warnings of torch's own, which the suite takes for errors: that
  guards may be slow on Python 3.13.0 (16), that `torch.jit.script` is deprecated (4), that there is no GPU for its
  build with CUDA (2). Two are the bfloat16 gradient of jax below, in the calibration of `jax_impl` and in
  `haiku_builtin`, which has it too; and docs/builtins.md says what the pinned releases do. triton, which torch's
  build with CUDA brings, was removed: `import tensorflow, triton` ends Python with a segmentation fault, `import
  triton, tensorflow` does not.
- **Python 3.12** with the pinned releases, without triton: `trihead verify` and `docs/my_port.py` hold, and 681 tests
  pass: those of `framework_tests/test_torch.py`, `test_jax.py` and `test_tf.py`, and of ten files of `meta_tests`.
"""


def page(kept: Mapping[str, Summary], found: Mapping[str, str]) -> str:
    """The page; `found` is what there is to say of each environment, in words."""
    parts = (_verdicts(kept), _findings(kept, found), _clauses(kept), _moves(kept))
    return "\n".join([HEAD, *("\n".join([*part, ""]) for part in parts)]).rstrip() + "\n"


def _verdicts(kept: Mapping[str, Summary]) -> Iterator[str]:
    yield from ("## Verdicts", "", "| | Python | releases | verdict | moved | furthest |", "|---" * 6 + "|")
    for name, summary in kept.items():
        facts, rows = summary["facts"], summary["drift"]["rows"]
        releases = ", ".join(f"{module} {facts[module]}" for module in (*MODULES, "numpy") if module in facts)
        verdict = "holds" if summary["verdict"].startswith("HOLDS") else f"**{summary['verdict']}**"
        cells = (name, facts["python"], releases.replace("+", " "), verdict, _moved(rows), _furthest(rows))
        yield f"| {' | '.join(cells)} |"
    dates = sorted({summary["facts"]["date"] for summary in kept.values()})
    processors = sorted({summary["facts"]["processor"] for summary in kept.values()})
    yield from ("", f"On {', '.join(processors)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}.")


def _findings(kept: Mapping[str, Summary], found: Mapping[str, str]) -> Iterator[str]:
    yield from ("## What was found", "")
    for name, summary in kept.items():
        words = [found[name]] if found[name] else []
        words += [*summary["causes"], *(line.replace("\n", " ") for line in summary["lines"])]
        yield from (f"- **{name}**: {line}" for line in words)


def _clauses(kept: Mapping[str, Summary]) -> Iterator[str]:
    """The worst deviation of each clause, a column for each environment and subject."""
    columns = [(name, subject) for name, summary in kept.items() for subject in summary["clauses"]["2.1"]]
    yield from ("## Clause by clause", "", "The furthest from the oracle, where 8σ is the gate.", "")
    yield f"| clause | | {' | '.join(_title(kept, *column) for column in columns)} |"
    yield "|---" * (2 + len(columns)) + "|"
    for clause, title in CLAUSES.items():
        cells = [kept[name]["clauses"].get(clause, {}).get(subject) for name, subject in columns]
        if any(cells):
            yield f"| {clause} | {title} | {' | '.join(map(_cell, cells))} |"


def _title(kept: Mapping[str, Summary], name: str, subject: str) -> str:
    return f"{name}, {subject}" if len(kept[name]["clauses"]["2.1"]) > 1 else name


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    words = "exact" if cell["worst"] is None else in_words(cell["worst"])
    words = f"**{cell['failed']:,} differ**" if cell["failed"] else words
    return words + (f", {cell['excused']:,} excused" if cell["excused"] else "")


def _moves(kept: Mapping[str, Summary]) -> Iterator[str]:
    """What moved in each clause, where anything did."""
    yield from ("## What moved", "", "| | clause | | moved | furthest |", "|---" * 5 + "|")
    for name, summary in kept.items():
        for row in summary["drift"]["rows"]:
            if row["moved"]:
                cells = (_title(kept, name, row["subject"]), row["clause"], CLAUSES[row["clause"]])
                yield f"| {' | '.join([*cells, _moved([row]), _furthest([row])])} |"


def _moved(rows: list[dict[str, Any]]) -> str:
    compared, moved = (sum(row[what] for row in rows) for what in ("compared", "moved"))
    return f"{moved:,} of {compared:,}" if moved else f"none of {compared:,}"


def _furthest(rows: list[dict[str, Any]]) -> str:
    row = max(rows, key=lambda row: row["sigmas"] or 0.0)
    return f"{in_sigma(row['sigmas'])}, {in_units(row['units'])}" if row["moved"] else ""
