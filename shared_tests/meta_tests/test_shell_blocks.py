"""Shell blocks of the pages: each line is something that exists, as it is written, and what takes seconds is run."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from shared_tests.commands.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "compare").glob("*.md")})
RUN = ("trihead show", "trihead convert --list", "trihead verify --subject docs/")
"""What begins so is run; all else is read by the command line to its end."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OTHERS = ("cp", "model=$(", "node", "pytest", "python", "torchrun", "TF_CONFIG=")
"""Other people's programs, and ours in Python, which the tests of their pages run."""


def lines(page):
    """The commands in the `sh` blocks of a page, each on one line, less comments."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


COMMANDS = sorted({(page.relative_to(ROOT).as_posix(), shlex.join(words)) for page in PAGES for words in lines(page)})


def read(words):
    """Lets the command line read the arguments of `trihead`, and stops before anything is done."""
    command, names = typer.main.get_command(app), ["trihead"]
    while hasattr(command, "commands"):
        command, names = command.commands[words[0]], [*names, words[0]]
        words = words[1:]
    command.make_context(" ".join(names), list(words))


def extras_of(words):
    return [name for word in words for names in re.findall(r"\[(.*)\]", word) for name in names.split(",")]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {command}" for page, command in COMMANDS])
def test_a_command_exists_as_it_is_written(page, command):
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]) and len(words) > 1 and not words[0].startswith("TF_CONFIG"):
        words = words[1:]  # a variable for the one command
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
    elif words[0] == "trihead":
        if not command.startswith(RUN):
            read(words[1:])
    elif words[:2] == ["pip", "install"]:
        assert set(extras_of(words)) <= set(EXTRAS)
    else:
        assert words[0].startswith(OTHERS), words


@pytest.mark.parametrize("command", sorted({command for _, command in COMMANDS if command.startswith(RUN)}))
def test_what_takes_seconds_is_run(command):
    arguments = shlex.split(command)[1:]
    ended = subprocess.run(
        [sys.executable, "-m", "shared_tests", *arguments], cwd=ROOT, capture_output=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["verify", "--subjekt", "x"], "No such option: --subjekt"),
        (["convert", "a", "b", "--no-such"], "No such option: --no-such"),
        (["heads", "show"], "Missing parameter: what"),
    ],
)
def test_a_wrong_command_is_seen(words, why):
    with pytest.raises(Exception, match=why):  # by the click within typer
        read(words)
