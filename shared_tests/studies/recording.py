"""Records: what subjects answer today, with all that the answers depend on, in one safetensors file.

An array is called SUBJECT/CASE/DTYPE/ARRAY; numbers of bfloat16 and float16 are stored in float32, which holds them
exactly. docs/drift.md describes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.cases.case import Case
from shared_tests.harness.answers import MANIFEST
from shared_tests.harness.apart import each_apart
from shared_tests.harness.errors import in_words
from shared_tests.harness.find import find, option
from shared_tests.harness.questions import Questioned
from shared_tests.harness.rounding import Array
from shared_tests.harness.subject import CLAIMS, as_subject, offers
from shared_tests.storage import write_bytes
from shared_tests.studies.installation import installation, settings
from shared_tests.studies.recorded import Asked, all_asked
from shared_tests.tensors import decode, encode

SCHEMA = "1"
MADE_BY = "trihead record"
METHODS = ("gradients", "with_mask", "train")
"""The optional methods that a record asks."""
Advance = Callable[[str], None]


@dataclass(frozen=True)
class Recorded:
    """What is known of one subject beside its answers. `option` finds it again, `claims` are as `Subject` has them."""

    option: str
    claims: Mapping[str, Any]
    settings: Mapping[str, str]
    digests: Mapping[str, str]
    """By case and dtype, of what was asked."""
    errors: Mapping[str, str]
    """By case and dtype, what an answer came to in place of arrays."""

    @property
    def source(self) -> str:
        """By what name `find` finds it."""
        kind, _, where = self.option.partition(" ")
        return str(Path(where) / MANIFEST) if kind == "--answers" else where

    def stand_in(self, name: str) -> Any:
        """A subject with the same claims, which answers nothing: what was asked is found with it."""
        found = Questioned({"name": name, **{claim: self.claims[claim] for claim in CLAIMS if claim in self.claims}})
        for method in self.claims["methods"]:
            setattr(found, method, print)
        return as_subject(found)


@dataclass(frozen=True)
class Record:
    """Subjects by name, their answers by SUBJECT/CASE/DTYPE/ARRAY, and the installation and date as facts."""

    facts: Mapping[str, str]
    subjects: Mapping[str, Recorded]
    arrays: dict[str, Array]

    def of(self, subject: str, key: str) -> dict[str, Array]:
        """The arrays that a subject answered to a case in a dtype, by name."""
        start = f"{subject}/{key}/"
        return {name.removeprefix(start): x for name, x in self.arrays.items() if name.startswith(start)}

    def save(self, path: str | Path) -> None:
        """Writes the record to a file, whole or not at all."""
        write_bytes(Path(path), self.encoded())

    def encoded(self) -> bytes:
        """The file's bytes: the same for the same record."""
        subjects = {name: vars(recorded) for name, recorded in self.subjects.items()}
        manifest = json.dumps({"facts": self.facts, "subjects": subjects})
        metadata = {"made by": MADE_BY, "schema": SCHEMA, "manifest": manifest}
        return encode(self.arrays, metadata | {"sha256": _digest(metadata, self.arrays)})


def record(*subjects: Any, cases: dict[str, Case] | None = None, advance: Advance = lambda _: None) -> Record:
    """What subjects answer, as far as they claim: on these cases, in every dtype; on everything if cases is None.

    `advance` hears of each case as it begins. Raises ValueError, in one line, for what cannot be asked.
    """
    return together([_record(as_subject(subject), cases, advance) for subject in subjects])


def record_apart(names: Sequence[str], device: str | None, programs: Path | None, advance: Advance) -> Record:
    """The same of the subjects that `find` finds by these names, each in a process of its own."""
    return together(each_apart(_find_and_record, {name: (name, device, programs) for name in names}, advance))


def together(records: Sequence[Record]) -> Record:
    """One record of several. Raises ValueError if two subjects have one name."""
    names = [name for one in records for name in one.subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"subject: expected different names, got {', '.join(names)}")
    subjects = {name: recorded for one in records for name, recorded in one.subjects.items()}
    return Record(_facts(), subjects, {name: array for one in records for name, array in one.arrays.items()})


def read_record(path: str | Path) -> Record:
    """Reads a record. Raises ValueError, in one line, for a file that is none, of another schema, or was changed."""
    data = Path(path).read_bytes()
    try:
        arrays, metadata = decode(data)
    except ValueError as error:
        raise ValueError(f"{path}: expected a record, got a file that is truncated or foreign ({error})") from None
    if metadata.get("made by") != MADE_BY:
        raise ValueError(f"{path}: expected a record, got a file that {MADE_BY} did not write")
    if metadata.get("schema") != SCHEMA:
        raise ValueError(f"{path}: expected a record of schema {SCHEMA}, got {metadata.get('schema')!r:.40}")
    given = metadata.pop("sha256", "")
    if given != _digest(metadata, arrays) or encode(arrays, metadata | {"sha256": given}) != data:
        raise ValueError(f"{path}: expected a record as {MADE_BY} wrote it, got one that was changed")
    manifest = json.loads(metadata["manifest"])
    subjects = {name: Recorded(**about) for name, about in manifest["subjects"].items()}
    return Record(manifest["facts"], subjects, {name: array.copy() for name, array in sorted(arrays.items())})


def _find_and_record(oracle: Any, name: str, device: str | None, programs: Path | None) -> Record:
    return record(find(name, device, programs), advance=oracle.tell)


def _record(subject: Any, cases: dict[str, Case] | None, advance: Advance) -> Record:
    def answered(one: Asked) -> dict[str, Array] | str:
        advance(one.key.replace("/", ", "))
        try:
            return one.answers(subject)
        except (Exception, SystemExit) as error:  # a port may fail in any way
            return in_words(error)

    everything = list(all_asked(subject, cases))
    with ThreadPoolExecutor(3 if subject.concurrent else 1) as threads:
        answers = dict(zip((one.key for one in everything), threads.map(answered, everything), strict=True))
    found = {key: arrays for key, arrays in answers.items() if not isinstance(arrays, str)}
    errors = {key: words for key, words in answers.items() if isinstance(words, str)}
    claims = {claim: _plain(getattr(subject, claim)) for claim in CLAIMS}
    claims["methods"] = [method for method in METHODS if offers(subject, method)]
    chosen = settings(subject) if hasattr(subject, "backend") else {}
    digests = {one.key: one.digest for one in everything}
    about = Recorded(option(subject), claims, chosen, digests, errors)
    named = {f"{subject.name}/{key}/{name}": _stored(x) for key, of in found.items() for name, x in of.items()}
    return Record(_facts(), {subject.name: about}, dict(sorted(named.items())))


def _facts() -> dict[str, str]:
    return {"date": date.today().isoformat()} | installation()


def _plain(claim: Any) -> Any:
    """As JSON has it."""
    return list(claim) if isinstance(claim, tuple) else claim


def _stored(array: Array) -> Array:
    return array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32)


def _digest(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> str:
    """Of the metadata and every array, name, dtype and shape with it."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
