"""The Python of these pages runs, block after block, and prints what the block of text after it shows.

A page with tabs is three programs, one for each framework: what stands outside the tabs, and its own tab.
"""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from sybil import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser

ROOT = Path(__file__).parents[2]
PACKAGES = "torch_impl", "jax_impl", "tf_impl"  # PyTorch is imported first
PROGRAMS = [
    *(("docs/compare/chapter.md", package.removesuffix("_impl")) for package in PACKAGES),
    ("docs/compare/index.md", ""),
    ("docs/compare/silent.md", ""),
    ("README.md", ""),
]
TAB = re.compile(r"^:::\{tab-item\}.*?^:::$", re.DOTALL | re.MULTILINE)
COLUMNS = re.compile(r"<table>.*?</table>\s+```text\n.*?```", re.DOTALL)
"""Of the README: functions without their heads, and what a command printed. test_readme.py holds these."""


class Reader:
    """Runs each block of Python, and remembers what it printed until a block of text has shown it."""

    def __init__(self):
        self.printed, self.run = "", PythonEvaluator()

    def python(self, example):
        self.end()
        with redirect_stdout(StringIO()) as printed:
            self.run(example)
        self.printed = printed.getvalue()

    def text(self, example):
        assert example.parsed == self.printed, f"{example.path}, line {example.line}: expected what the block prints"
        self.printed = ""

    def end(self):
        assert not self.printed, "expected a block of text that shows what the block of Python before prints"


def blank(match):
    """Nothing but lines, so that the numbers of all others stay."""
    return "\n" * match[0].count("\n")


def program(page, tab):
    """The page as somebody reads it who has chosen one tab."""
    text = COLUMNS.sub(blank, (ROOT / page).read_text())
    return TAB.sub(lambda match: match[0] if f":sync: {tab}\n" in match[0] else blank(match), text)


def examples(page, tab, reader):
    """The blocks of one tab and of no tab, in the order of the page."""
    document = Document(program(page, tab), page)
    for language in ("python", "text"):
        for region in CodeBlockParser(language, getattr(reader, language))(document):
            document.add(region)
    return list(document)


@pytest.mark.parametrize(("page", "tab"), PROGRAMS)
def test_blocks_run_and_print_what_is_shown(page, tab, tmp_path, monkeypatch):
    for package in PACKAGES:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    reader = Reader()
    for example in examples(page, tab, reader):
        example.evaluate()
    reader.end()


@pytest.mark.parametrize("page", {page: None for page, _ in PROGRAMS})
def test_every_block_is_run(page):
    """In one of the tabs at least, wherever its fence stands."""
    lines = COLUMNS.sub(blank, (ROOT / page).read_text()).splitlines()
    fences = {number for number, line in enumerate(lines, 1) if re.match(r"\s*```(\{.*\} *)?(python|text)", line)}
    tabs = [tab for name, tab in PROGRAMS if name == page]
    assert {example.line for tab in tabs for example in examples(page, tab, Reader())} == fences != set()
