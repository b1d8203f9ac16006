"""Questions and answers in a folder of files, so that a port in any language can be judged.

    manifest.json   what is claimed, and of each question its file, digest, case, dtype, sizes, and what to answer
    questions/      a safetensors file for each
    answers/        the port's own, of the same names

What is asked is found by asking: a subject that writes each question down is judged, and answers zeros. So the files
have all questions as long as none depends on the numbers of an earlier answer, which holds for the judge. One that does
is a LookupError of the case, not a silence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shared_tests.harness.errors import UnfitError
from shared_tests.harness.questions import METHODS, Question, Questioned
from shared_tests.harness.rounding import Array, to_format
from shared_tests.harness.subject import CLAIMS, as_subject
from shared_tests.storage import read_arrays, write_arrays, write_bytes

SCHEMA = 1
MANIFEST = "manifest.json"
MADE_BY = "trihead cases"
ANEW = f"write it anew with {MADE_BY}"
DIGITS = 12
"""So many of a question's digest are in the name of its file, by which it is found."""
Ask = Callable[[Any, Callable[[str], None]], object]
"""What asks a subject, and tells the name of each case as it begins: the judge is one."""


class _Recorder(Questioned):
    """Writes down what it is asked."""

    case = "question"

    def __init__(self, claims: Mapping[str, Any]) -> None:
        super().__init__(claims)
        self.entries: dict[str, tuple[str, Question]] = {}
        """By digest: the case in which it was first asked, and the question with all that is to be answered."""

    def ask(self, question: Question) -> dict[str, Array]:
        case, known = self.entries.get(question.digest, (self.case, question))
        self.entries[question.digest] = case, known.answered(question.answer)
        return {name: to_format(np.zeros(shape), question.dtype) for name, shape in question.answer.items()}


class Written(Questioned):
    """A subject whose answers lie in a folder."""

    def __init__(self, folder: Path, claims: Mapping[str, Any], files: Iterable[str]) -> None:
        super().__init__({"name": folder.resolve().name} | dict(claims))
        self.folder, self.option = folder, f"--answers {folder}"
        self._files = {Path(file).stem[-DIGITS:]: file for file in files}

    def ask(self, question: Question) -> dict[str, Array]:
        """Reads the answer. Raises LookupError for a question that is not in the folder, FileNotFoundError if there
        is no answer, UnfitError for one that cannot be read or lacks an array."""
        file = self._files.get(question.digest[:DIGITS])
        if file is None:
            raise LookupError(f"{self.folder} lacks this question, as another installation drew it: {ANEW}")
        if not (self.folder / "answers" / file).is_file():
            raise FileNotFoundError(self._unanswered)
        try:
            found = read_arrays(self.folder / "answers" / file)
        except ValueError:
            raise UnfitError(f"answer: expected a safetensors file, got {file}, truncated or foreign") from None
        needed = question.answer.keys() & {"output", "attention_weights"}
        if not needed <= found.keys():
            names = ", ".join(sorted(found)) or "no array"
            raise UnfitError(f"answer: expected {', '.join(sorted(needed))}; {file} has {names}")
        return found

    @cached_property
    def _unanswered(self) -> str:
        """The same words for every question without an answer, so that a report has them once."""
        absent = [file for file in self._files.values() if not (self.folder / "answers" / file).is_file()]
        questions = f"{len(absent)} of {len(self._files)} questions"
        return f"{questions} have no answer in {self.folder / 'answers'}, the first {absent[0]}"


def read_claims(path: Path) -> dict[str, Any]:
    """{attribute of `Subject`, or "methods": value} from a JSON file.

    Raises ValueError, in one line, for any other file.
    """
    claims = _json(path)
    words = [*CLAIMS, "name", "methods"]
    if unknown := claims.keys() - set(words):
        raise ValueError(f"{path}: expected claims of {', '.join(words)}, got {', '.join(sorted(unknown))}")
    methods = claims.get("methods", [])
    if not isinstance(methods, list) or not all(method in METHODS for method in methods):
        raise ValueError(f"{path}: expected methods of {', '.join(METHODS)}, got {methods!r}")
    return claims


def write_questions(
    folder: Path, claims: Mapping[str, Any], asks: Iterable[Ask], advance: Callable[[str], None] = lambda _: None
) -> int:
    """Writes what `asks` ask a subject that claims this, and returns how many questions that is.

    The folder is new or empty, or holds questions already: those that are not asked any more are removed, answers
    stay. Raises ValueError, in one line, for any other folder, or claims that there are not.
    """
    before = _files_before(folder)
    recorder = as_subject(_Recorder({"name": folder.resolve().name} | dict(claims)))

    def heard(case: str) -> None:
        recorder.case = case
        advance(case)

    for ask in asks:
        ask(recorder, heard)
    for part in ("questions", "answers"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    entries = [_write(folder / "questions", *entry) for entry in recorder.entries.values()]
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    head = json.dumps({"made by": MADE_BY, "schema": SCHEMA, "claims": claims}, indent=1).removesuffix("\n}")
    write_bytes(folder / MANIFEST, f'{head},\n "questions": [\n  {lines}\n ]\n}}\n'.encode())
    for file in before - {entry["file"] for entry in entries}:  # last: until now the old manifest was a whole one
        (folder / "questions" / file).unlink(missing_ok=True)
    return len(entries)


def read_answers(folder: Path) -> Written:
    """The subject whose answers lie in a folder of questions.

    Raises ValueError, in one line, if the folder is none, is of another schema, or holds questions that were changed.
    """
    manifest = _manifest(folder)
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"{folder}: expected questions of schema {SCHEMA}, got {manifest['schema']!r}: {ANEW}")
    changed = [entry["file"] for entry in manifest["questions"] if _digest(folder, entry["file"]) != entry["sha256"]]
    if changed:
        raise ValueError(f"{folder}: expected questions as {MADE_BY} wrote them, got {changed[0]} changed: {ANEW}")
    return Written(folder, manifest["claims"], [entry["file"] for entry in manifest["questions"]])


def _write(folder: Path, case: str, question: Question) -> dict[str, Any]:
    """Writes a question, and returns what the manifest says of it."""
    words = re.sub(r"[^a-z0-9]+", "-", case.lower())
    file, config = f"{words}-{question.digest[:DIGITS]}.safetensors", question.config
    write_arrays(folder / file, question.arrays)
    sizes = ("key_size", "query_size", "value_size", "num_hiddens", "num_heads", "head_dim", "bias")
    return {
        "file": file,
        "sha256": _digest(folder.parent, file),
        "case": case.removesuffix(f", {question.dtype}"),
        "dtype": question.dtype,
        "config": {size: getattr(config, size) for size in sizes} | {"scoring": config.scoring.claim or "dot product"},
        "answer": question.answer,
    }


def _digest(folder: Path, file: str) -> str:
    """Of the file of a question; empty if there is none."""
    path = folder / "questions" / file
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _files_before(folder: Path) -> set[str]:
    """The questions in a folder. Raises ValueError for one that is neither empty nor ours."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return set()
    try:
        return {entry["file"] for entry in _manifest(folder)["questions"]}
    except ValueError:
        raise ValueError(f"{folder}: expected a new or empty folder, or one that {MADE_BY} wrote") from None


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = _json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    if manifest.get("made by") != MADE_BY or not {"schema", "claims", "questions"} <= manifest.keys():
        raise ValueError(f"{folder}: expected a folder that {MADE_BY} wrote, with its {MANIFEST}")
    return manifest


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
