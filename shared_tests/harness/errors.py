"""Errors of a port in one line each: what the error says, and where in the porter's own files it came up."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from traceback import walk_tb

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BOILERPLATE = re.compile(
    r"\W*$|Exception encountered when calling|For simplicity, JAX|The stack trace below|See https?:|Set TORCH|"
    r"You can suppress this exception|This error occurred for|The above exception|from user code",
)
"""Lines by which frameworks wrap the one that says what is wrong."""
AFTERWORD = re.compile(r"Arguments received by|Call arguments received|C\+\+ CapturedTraceback|Function signature")
"""Where what follows is a list of what was passed, or of calls."""
LONGEST = 200
OURS = Path(__file__).parents[1]
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


class UnfitError(ValueError):
    """What a method of a subject returned is not what was asked for."""


def in_words(error: BaseException) -> str:
    """An error in one line, whatever it is: its first line that says something, and its last if that is another."""
    try:
        lines = [line.strip() for line in COLOURS.sub("", str(error)).splitlines()]
    except Exception:
        lines = ["an error that cannot be printed"]
    end = next((i for i, line in enumerate(lines) if AFTERWORD.match(line)), len(lines))
    said = [line for line in lines[:end] if not BOILERPLATE.match(line)] or [line for line in lines if line][:1] or [""]
    words = said[0] if len(said) == 1 else f"{said[0]} … {said[-1]}"
    if len(words) > LONGEST:
        words = f"{said[0][: LONGEST // 2].strip()} … {said[-1][-LONGEST // 2 :].strip()}"
    return f"{type(error).__name__}: {words}"


def place(error: BaseException) -> str:
    """The last line of the porter's own that the error went through, as "my_port.py:12"; empty if there is none."""
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    own = [f"{path.name}:{line}" for path, line in frames if _is_own(path)]
    return own[-1] if own else ""


def _is_own(path: Path) -> bool:
    """Whether a file is neither a library's nor the judge's."""
    if OURS in path.parents:
        return path.parent.name == "subjects"
    libraries = any(Path(folder) in path.parents for folder in LIBRARIES)
    return path.is_absolute() and not libraries and "site-packages" not in path.parts
