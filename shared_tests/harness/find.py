"""Finding a subject: by its name among those that come with the project, or as a class in a file."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any

from shared_tests.frameworks import extra_of
from shared_tests.harness.answers import MANIFEST, read_answers
from shared_tests.harness.errors import in_words
from shared_tests.harness.subject import as_subject, offers


def find(name: str, device: str | None = None, programs: Path | None = None) -> Any:
    """The subject called `name` in `shared_tests.subjects`, or the class that FILE.py:Class names.

    DIR/manifest.json is the subject whose answers lie in the folder DIR, which `trihead cases` wrote.
    device: where it makes layers and arrays, if not where its framework does by itself. programs: the folder for
    what its framework compiles. Raises ValueError, in one line, if there is no such subject, it cannot be judged or
    not be put there; ImportError if its framework is missing.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a framework may swallow Ctrl-C while it is imported
    try:
        subject = _found(name)
    except ModuleNotFoundError as error:
        raise missing(name, error) from error
    finally:
        signal.signal(signal.SIGINT, before)
    if not offers(subject, "forward"):
        raise ValueError(f"subject: expected one that is judged, got {name}, which trihead bench times")
    place(subject, device)
    keeper = getattr(subject, "backend", subject)
    if programs is not None and offers(keeper, "keep_programs"):
        keeper.keep_programs(programs)
    return as_subject(subject)


def missing(name: str, error: ModuleNotFoundError) -> ImportError:
    """The error, in one line, of what lacks its framework, with the extra that brings it."""
    extra = "" if ".py:" in name else extra_of(error.name)
    remedy = f"; pip install 'trihead[{extra}]'" if extra else ""
    return ImportError(f"{name}: expected its framework to be installed, got: {error}{remedy}")


def _found(name: str) -> Any:
    if Path(name).name == MANIFEST:
        return read_answers(Path(name).parent)
    return _from_file(name) if ".py:" in name else find_layer(name)


def option(subject: Any) -> str:
    """The option by which a command finds a subject again."""
    found: str = getattr(subject, "option", "") or f"--subject {_source(subject)}"
    return found


def _source(subject: Any) -> str:
    """By what name `find` finds a subject's class again; its own name if it stands in no file."""
    kind = type(subject)
    if kind.__module__.startswith("shared_tests.subjects."):
        return str(subject.name)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None or "<locals>" in kind.__qualname__:
        return str(subject.name)
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{kind.__name__}"


def place(found: Any, device: str | None) -> None:
    """Puts a subject on a device; None: nowhere in particular. Raises ValueError if it cannot be put there."""
    if device is not None:
        if not hasattr(found, "backend"):
            raise ValueError(f"--device: expected a subject that can be placed, got {type(found).__name__}")
        found.backend.place(device)


def find_layer(name: str) -> Any:
    """The class in `shared_tests/subjects` called `name`, made; it may be one that is only timed."""
    if name not in known():
        raise ValueError(f"subject: expected one of {', '.join(known())} or FILE.py:Class, got {name}")
    module_name = f"shared_tests.subjects.{name}"
    classes = [c for c in vars(importlib.import_module(module_name)).values() if isinstance(c, type)]
    (found,) = (c for c in classes if c.__module__ == module_name and getattr(c, "name", None) == name)
    return found()


def known() -> list[str]:
    """The names of the subjects that come with the project."""
    package = importlib.import_module("shared_tests.subjects")
    return sorted(path.stem for path in Path(str(package.__file__)).parent.glob("*.py") if path.stem[0] != "_")


def _from_file(name: str) -> Any:
    """An instance of the class that FILE.py:Class names."""
    file, _, class_name = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"subject: expected a file, got {path}")
    spec = importlib.util.spec_from_file_location(f"trihead port {path}", path)
    assert spec is not None
    assert spec.loader is not None  # the name ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    sys.path.append(str(path.parent.resolve()))  # a port may import a file beside it
    try:
        spec.loader.exec_module(module)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:  # a port's file may hold anything
        raise ValueError(f"{path}: expected a file that Python can run, got {in_words(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ValueError(f"subject: expected a class {class_name} in {path}, got none")
    missing = [method for method in ("build", "forward") if not offers(found, method)]
    if missing:
        raise ValueError(f"subject: expected {class_name} to have build and forward, got no {' and no '.join(missing)}")
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise ValueError(f"subject: expected {class_name}() to make one, got {in_words(error)}") from error
