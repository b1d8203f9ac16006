"""Pages of the documentation that are written from what the judge knows and printed; `make docs-data` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from shared_tests.frameworks import FRAMEWORKS, OURS, SHARDED
from shared_tests.harness.clauses import link
from shared_tests.harness.compare import BINS, Verdict
from shared_tests.harness.known import KnownDifference, known_differences
from shared_tests.harness.report import describe
from shared_tests.harness.rounding import GATE
from shared_tests.studies import builtins

VERDICT = Path("docs/data/verify.json")
"""What `trihead verify --json` wrote of the three."""
DOCTOR = "<!-- trihead doctor -->\n"
"""Stands before the block of text that shows what `trihead doctor` prints."""
RELEASES = ("numpy", *(module for framework in FRAMEWORKS for module in framework.modules))
BOUNDS = (0.5, 1.0, 2.0, 3.0, 4.0, GATE)
"""Up to how many sigma errors are counted together."""
RESULTS = """# Results

For whoever asks whether the three are the same: what `trihead verify` printed of them.

Printed on {date}, on a CPU ({processor}, {threads} threads), with Python {python},
{releases}.
`make docs-data` runs `trihead verify --json {file}`, and writes this page from that file.

**{verdict}**

{clauses}

A cell says how far the worst of so many comparisons is off. **σ** is the rounding noise [predicted](rounding.md) for
that one element; a clause holds up to {gate:g}σ. *exact*: the clause asks for the same bits, and all are the same.
*excused*: listed in the [known differences](known-differences.md). On another processor other kernels run, and other
figures come.

## How far off

Of all comparisons that are measured in σ, the part that lies within so many:

{shares}
"""
KNOWN = """# Known differences

For whoever reads *excused* in a table, or trains in low precision: where a framework's own kernel does not do what the
[contract](contract.md) says. Written from `shared_tests/known_differences.toml` and `shared_tests/builtins.toml` by
`make docs-data`.

A failure that is listed is excused and counted; an entry that no longer fails is itself a failure, so the list does not
outlive what it lists. Where an entry names releases, it counts with these alone.

## Of the three

{ours}
## Of layers of frameworks and libraries

[How to see each for oneself](builtins.md#what-differs).

{layers}

## What these layers do not claim

A claim that is less than all leaves out what is not asked of the layer then;
[how to see each for oneself](builtins.md#why-they-claim-no-more).

{claims}
"""


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows))


def results(verdict: Mapping[str, Any]) -> str:
    """docs/results.md, of what `trihead verify --json` wrote."""
    facts, subjects = verdict["facts"], verdict["subjects"]
    rows = [
        [link(row["clause"]), row["title"], *(_cell(row, subject) for subject in subjects)]
        for row in verdict["clauses"]
    ]
    return RESULTS.format(
        **facts,
        file=VERDICT,
        releases=", ".join(f"{name} {facts[name].partition('+')[0]}" for name in RELEASES if name in facts),
        verdict=verdict["verdict"],
        gate=verdict["gate_sigma"],
        clauses=table(["clause", "", *subjects], rows),
        shares=table(["within", *subjects], _shares(verdict)),
    )


def _cell(row: Mapping[str, Any], subject: str) -> str:
    cell = row["subjects"][subject]
    if cell is None:
        return str(row["not asked"][subject])
    return describe(Verdict(**{name: value for name, value in cell.items() if name != "holds"}))


def _shares(verdict: Mapping[str, Any]) -> list[list[str]]:
    """A row for each bound: the part of each subject's comparisons that lie below it."""
    columns = []
    for subject in verdict["subjects"]:
        cells = [row["subjects"][subject] for row in verdict["clauses"]]
        histograms = [cell["histogram"] for cell in cells if cell and cell["histogram"]]
        counts = [sum(bins) for bins in zip(*histograms, strict=True)]
        below = [sum(counts[: round(bound / GATE * BINS)]) / sum(counts) for bound in BOUNDS]
        columns.append([*(f"{share:.4%}" if share < 1 else "all" for share in below), f"{counts[-1]:,}"])
    words = [*(f"{bound:g}σ" for bound in BOUNDS), "further, all excused: how many"]
    return [[word, *cells] for word, *cells in zip(words, *columns, strict=True)]


def known() -> str:
    """docs/known-differences.md, of the two lists in shared_tests."""
    ours = [_entry(entry) for entry in known_differences() if entry.subject in (*OURS, *SHARDED)]
    claims = [[f"`{d.subject}`", f"`{d.claim}`", d.words] for d in builtins.deviations()]
    return KNOWN.format(
        ours="\n".join(ours),
        layers=table(["layer", "clause", "where", "why"], map(_row, builtins.differences())),
        claims=table(["layer", "claim", "because"], claims),
    )


def _row(entry: KnownDifference) -> list[str]:
    return [f"`{entry.subject}`", link(entry.clause), _where(entry) or "everywhere", entry.reason]


def _where(entry: KnownDifference) -> str:
    """In which dtype, case, quantity and releases, as far as it says."""
    parts = [entry.dtype] if entry.dtype != "any" else []
    parts += [f"case “{entry.case}”"] if entry.case != "any" else []
    parts += [f"gradient of `{'*' if entry.what.startswith('.') else ''}{entry.what}`"] if entry.what else []
    return ", ".join([*parts, *([f"`{entry.releases}`"] if entry.releases else [])])


def _entry(entry: KnownDifference) -> str:
    """An entry of our own list, and how to see it."""
    where = ", ".join(filter(None, [f"**{entry.subject}**", f"clause {link(entry.clause)}", _where(entry)]))
    code = entry.reproduction.strip()
    seen = f"```python\n{code}\n```" if "\n" in code or code.endswith(")") else f"To see it: {code}."
    return f"{where}: {entry.reason}.\n\n{seen}\n"


def with_doctor(page: str, printed: str) -> str:
    """docs/environment.md with this as what `trihead doctor` prints: less the releases of all that is no framework,
    and less the variables of the machine."""
    before, _, after = page.partition(DOCTOR)
    _, opened, block = after.partition("```text\n")
    if not opened:
        raise ValueError(f"docs/environment.md: expected {DOCTOR.strip()} and a block of text, found none")
    rest = block.partition("```\n")[2]
    return f"{before}{DOCTOR}Printed on {date.today()}:\n\n```text\n{doctor_block(printed)}```\n{rest}"


def doctor_block(printed: str) -> str:
    """Of what `trihead doctor` prints, the lines that every reader has."""
    lines, found = printed.splitlines(), ["machine", "processor", "python", *RELEASES]
    chosen = [line for line in lines if line.split(" ")[0] in found or ": " in line[:28] or line.startswith("HOLDS")]
    return "\n".join(line.replace("+cpu", "").rstrip() for line in chosen) + "\n"


def pages(root: Path) -> dict[Path, str]:
    """The pages that are written from files alone, in a moment."""
    return {
        root / "docs/results.md": results(json.loads((root / VERDICT).read_text())),
        root / "docs/known-differences.md": known(),
    }
