"""The ledger: other releases of the frameworks, each judged in an environment of its own, and kept as a small summary.

`python -m shared_tests.studies.ledger [NAME…] [--into FOLDER]`, in the root of the repository, makes the rows of these
names anew, all of them if there is no name, and writes docs/ledger.md of all summaries that are kept; with --page, the
page alone. It sets up each environment with the Python that is called python3.11, or as the environment says, and
removes it afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_tests.storage import programs_folder, write_bytes
from shared_tests.studies.drift import Drift
from shared_tests.studies.drifting import drift
from shared_tests.studies.ledger_page import Summary, page
from shared_tests.studies.recording import Record, read_record, record_apart

KEPT = Path("docs/ledger")
PAGE = Path("docs/ledger.md")
VERDICT, RECORD = "verdict.json", "record.safetensors"


@dataclass(frozen=True)
class Environment:
    """What is installed, by arguments of pip, and which subjects are judged in it."""

    name: str
    python: str
    subjects: Sequence[str]
    releases: Sequence[str]
    found: str = ""
    """What there is to say of it, in words."""


def environments(folder: Path = KEPT) -> dict[str, Environment]:
    """The environments of `environments.toml`, by name."""
    entries = tomllib.loads((folder / "environments.toml").read_text())["environment"]
    return {entry["name"]: Environment(**entry) for entry in entries}


def summaries(folder: Path = KEPT) -> dict[str, Summary]:
    """What is kept of each environment that was tried, in the list's order."""
    files = {name: folder / f"{name}.json" for name in environments(folder)}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def write_page(folder: Path = KEPT, path: Path = PAGE) -> None:
    """Writes the page of what is kept."""
    found = {name: environment.found for name, environment in environments(folder).items()}
    write_bytes(path, page(summaries(folder), found).encode())


def try_out(environment: Environment, folder: Path, baseline: Record) -> Summary:
    """Sets up an environment in a folder, judges and records in it, removes it, and says what was found.

    Raises OSError if there is no such Python, or if pip, the judge or the record ends with an error.
    """
    home = folder / environment.name
    python = _set_up(environment, home)
    subjects = [argument for name in environment.subjects for argument in ("--subject", name)]
    _call([python, "-m", "shared_tests", "verify", *subjects, "--json", str(home / VERDICT)], also=1)
    _call([python, "-m", "shared_tests", "record", str(home / RECORD), *subjects])
    verdict, after = json.loads((home / VERDICT).read_text()), read_record(home / RECORD)
    shutil.rmtree(home)
    return summary(verdict, after.facts, drift(_part(baseline, environment.subjects), after))


def summary(verdict: Mapping[str, Any], facts: Mapping[str, str], moved: Drift) -> Summary:
    """What is kept: releases, the verdict with each clause, and what moved since the baseline."""
    installed = {name: fact for name, fact in facts.items() if name not in ("machine", "trihead") and "_" not in name}
    return {
        "facts": {name: fact for name, fact in installed.items() if fact != "not installed"},
        "verdict": verdict["verdict"],
        "causes": verdict["causes"],
        "clauses": {row["clause"]: _asked(row["subjects"]) for row in verdict["clauses"] if _asked(row["subjects"])},
        "drift": {"verdict": moved.verdict(), "rows": [_row(row) for row in moved.as_json()["rows"]]},
        "lines": list(moved.lines()),
    }


def _asked(subjects: Mapping[str, Any]) -> dict[str, Any]:
    """Of each subject that was asked, the worst deviation and how many numbers failed and were excused."""
    kept = ("worst", "failed", "excused", "compared")
    return {name: {what: cell[what] for what in kept} for name, cell in subjects.items() if cell}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    furthest = (row["worst"] or {}).get("worst") or {"sigmas": 0.0, "units": 0.0}
    counts = {name: row[name] for name in ("subject", "clause", "compared", "moved", "beyond")}
    return counts | {"sigmas": furthest["sigmas"], "units": furthest["units"]}


def _part(whole: Record, subjects: Sequence[str]) -> Record:
    """The record of these subjects alone."""
    arrays = {name: array for name, array in whole.arrays.items() if name.partition("/")[0] in subjects}
    return Record(whole.facts, {name: whole.subjects[name] for name in subjects}, arrays)


def _set_up(environment: Environment, home: Path) -> str:
    """Makes an environment with trihead and these releases in it. Returns its Python."""
    found = shutil.which(f"python{environment.python}")
    if found is None:
        raise OSError(f"{environment.name}: expected python{environment.python} on the PATH, got none")
    _call([found, "-m", "venv", "--clear", str(home)])
    python = str(home / "bin" / "python")
    _call([python, "-m", "pip", "install", "--quiet", "--editable", ".", *environment.releases])
    return python


def _call(command: Sequence[str], also: int = 0) -> None:
    """Runs a program, which may end with 0 or `also`."""
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
    if ended.returncode not in (0, also):
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise OSError(f"{' '.join(command)}: expected it to end with 0, got {ended.returncode}: {''.join(said[-1:])}")


def make(names: Sequence[str], folder: Path) -> None:
    """Makes rows anew, each kept as soon as it is found, and the page. Raises what `try_out` raises."""
    listed = environments()
    if unknown := [name for name in names if name not in listed]:
        raise ValueError(f"ledger: expected names of {', '.join(listed)}, got {', '.join(unknown)}")
    chosen = [listed[name] for name in names or listed]
    subjects = list(dict.fromkeys(name for environment in chosen for name in environment.subjects))
    baseline = record_apart(subjects, None, programs_folder(), lambda _: None)
    for environment in chosen:
        found = try_out(environment, folder, baseline)
        write_bytes(KEPT / f"{environment.name}.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
        write_page()
        print(f"{environment.name}: {found['verdict']}; {found['drift']['verdict']}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """The program; an error is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="ledger", description="Judges other releases, and writes docs/ledger.md.")
    parser.add_argument("names", nargs="*", help="rows of docs/ledger/environments.toml; all if there are none")
    parser.add_argument("--into", type=Path, help="where environments are set up; a temporary folder if left out")
    parser.add_argument("--page", action="store_true", help="write the page of what is kept, and make no row")
    options = parser.parse_args(arguments)
    try:
        if options.page:
            return write_page()
        with tempfile.TemporaryDirectory() as folder:
            make(options.names, options.into or Path(folder))
    except (ValueError, OSError) as error:
        print(f"trihead: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
