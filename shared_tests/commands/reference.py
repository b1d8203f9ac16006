"""The page of commands, written from their own declarations.

`python -m shared_tests.commands.reference` writes it and the other pages that need no run; given a file of what
`trihead doctor` printed, it writes that into its page, too.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import typer
from typer.models import CommandInfo, OptionInfo

from shared_tests.commands.app import app
from shared_tests.storage import write_bytes
from shared_tests.studies import reference_pages

WORDS = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}
HEAD = """# Commands

For whoever knows what to do and not how it is called: every command of `trihead` with its options and an example.
Written from the commands themselves by `make docs-data`; `trihead COMMAND --help` prints the same.

Exit codes: 0, what was asked holds; 1, it does not; 2, bad use, said in one line on standard error. On a terminal, long
work shows a bar; otherwise all that is printed is plain text.
"""


def page() -> str:
    """docs/commands.md."""
    return "\n".join([HEAD, *(line for name, command in commands(app) for line in _section(name, command))])


def commands(of: typer.Typer, before: str = "trihead") -> Iterator[tuple[str, CommandInfo]]:
    """Every command by the words that call it; those of a group after it."""
    for command in of.registered_commands:
        yield f"{before} {command.name or _function(command).__name__}", command
    for group in of.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{before} {group.name}")


def _section(name: str, command: CommandInfo) -> list[str]:
    parameters = [*_parameters(command)]
    words = [what for what, _, is_option, required in parameters if not is_option]
    words += [what for what, _, is_option, required in parameters if is_option and required]
    usage = " ".join([name, *words, *(["[OPTIONS]"] if any(p[2] and not p[3] for p in parameters) else [])])
    return [
        f"## {name}",
        "",
        inspect.cleandoc(_function(command).__doc__ or ""),
        "",
        f"`{usage}`",
        "",
        *(f"- `{what}`: {help_}" for what, help_, *_ in parameters),
        "",
        "```sh",
        (command.epilog or "").removeprefix("Example: "),
        "```",
        "",
    ]


def _parameters(command: CommandInfo) -> Iterator[tuple[str, str, bool, bool]]:
    """What is written, what it means, whether it is an option, and whether it must be given."""
    hints = get_type_hints(_function(command), include_extras=True)
    for name, parameter in inspect.signature(_function(command)).parameters.items():
        kind, info = get_args(hints[name])
        required = parameter.default is inspect.Parameter.empty
        is_option = isinstance(info, OptionInfo)
        what = _option(name, _plain(kind), info) if is_option else info.metavar
        default = "" if required or not is_option else _default(name, parameter.default, info)
        yield what, f"{info.help}{default}", is_option, required


def _option(name: str, kind: Any, info: OptionInfo) -> str:
    written = _declared(info) or f"--{name.replace('_', '-')}"
    if kind is bool:
        return written if _declared(info) else f"{written}` / `--no-{written.removeprefix('--')}"
    return f"{written} {info.metavar or WORDS[kind]}"


def _declared(info: OptionInfo) -> str:
    """The name that an option was given, if it was: within Annotated, typer keeps it where a default would be."""
    return str(info.default) if isinstance(info.default, str) else ""


def _plain(kind: Any) -> Any:
    """The type of one value: of an optional one, or of those of a list."""
    if isinstance(kind, UnionType):
        return _plain(next(one for one in get_args(kind) if one is not NoneType))
    return _plain(get_args(kind)[0]) if get_origin(kind) is list else kind


def _default(name: str, default: object, info: OptionInfo) -> str:
    if isinstance(default, bool):
        return "" if _declared(info) else f" Default: `--{'' if default else 'no-'}{name.replace('_', '-')}`."
    return "" if default is None else f" Default: {default}."


def _function(command: CommandInfo) -> Any:
    return command.callback


def write(root: Path, printed: Path | None = None) -> None:
    """Writes the pages; `printed` is a file of what `trihead doctor` printed."""
    pages = reference_pages.pages(root) | {root / "docs/commands.md": page()}
    if printed is not None:
        environment = root / "docs/environment.md"
        pages[environment] = reference_pages.with_doctor(environment.read_text(), printed.read_text())
    for path, text in pages.items():
        write_bytes(path, text.encode())


if __name__ == "__main__":
    write(Path(), *map(Path, sys.argv[1:2]))
