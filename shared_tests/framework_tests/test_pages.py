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
TAB = re.compile(r"^:::\{tab-item\}.*?^:::$", re.DOTALL | re.MULTILINE)
PROGRAMS = [
    *(("docs/compare/chapter.md", tab) for tab in ("torch", "jax", "tf")),
    ("docs/compare/silent.md", None),
    ("README.md", None),
    ("README.zh-CN.md", None),
]


class Printed:
    """What the last block printed, until a block of text has shown it."""

    def __init__(self):
        self.lines, self.run = "", PythonEvaluator()

    def execute(self, example):
        self.check_shown()
        with redirect_stdout(StringIO()) as printed:
            self.run(example)
        self.lines = printed.getvalue()

    def compare(self, example):
        assert self.lines == example.parsed, f"line {example.line}: expected what the block before prints"
        self.lines = ""

    def check_shown(self):
        assert not self.lines, "expected a block of text after the block that prints this"


def blank(match):
    """Nothing but lines, so that the numbers of all others stay."""
    return "\n" * match[0].count("\n")


def program(text, tab):
    """A page with only one tab, and without tables of columns, which are no programs."""
    text = re.sub(r"<table>.*?</table>", blank, text, flags=re.DOTALL)
    text = re.sub(r"```sh\n.*?```\n\n```text", lambda match: blank(match) + "```shown", text, flags=re.DOTALL)
    return TAB.sub(lambda match: match[0] if f":sync: {tab}\n" in match[0] else blank(match), text)


@pytest.mark.parametrize(("page", "tab"), PROGRAMS, ids=lambda value: str(value))
def test_blocks_run_and_print_what_is_shown(page, tab, tmp_path, monkeypatch):
    for package in ("torch_impl", "jax_impl", "tf_impl") if tab is None else (f"{tab}_impl",):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    printed = Printed()
    document = Document(program((ROOT / page).read_text(), tab), page)
    for language, evaluator in (("python", printed.execute), ("text", printed.compare)):
        for region in CodeBlockParser(language, evaluator)(document):
            document.add(region)
    examples = list(document)
    assert examples
    for example in examples:
        example.evaluate()
    printed.check_shown()
