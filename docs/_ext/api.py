"""`api`: the signatures of a public name, and its docstring, read out of the sources when the site is built.

    :::{api} multihead.MultiHeadAttention
    :::
    :::{api} shared_tests.harness.judge.judge
    :::

A name of the three packages has three signatures and one docstring, which the mirror test holds the same.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from docutils import nodes
from source_pages import address
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from shared_tests import sources
from shared_tests.frameworks import FRAMEWORKS, OURS

SECTION = re.compile(r"(Args|Returns|Raises|Example):")
WIDTH = 90
ENTRY = re.compile(r"(\*?\w+): ")


class Api(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, packages = self.arguments[0], OURS
        if name.startswith("shared_tests."):
            top, room, name = name.split(".", 2)
            packages = (f"{top}.{room}",)
        try:
            found = {package: sources.parsed(package, name)[-1] for package in packages}
        except ValueError as error:
            raise self.error(f"api: {error}") from error
        for package in packages:
            self.env.note_dependency(str(sources.folder(package) / f"{name.partition('.')[0]}.py"))
        text = [*_tabs(found), "", *_prose(found[packages[0]])]
        return [*self.parse_text_to_nodes("\n".join(text)), self._links(name, found)]

    def _links(self, name: str, found: dict[str, sources.Named]) -> nodes.paragraph:
        links = nodes.paragraph("", "Source: ", classes=["api-source"])
        for package, node in found.items():
            file = f"{package.replace('.', '/')}/{name.partition('.')[0]}.py"
            url = address(self.env.docname, file, node.lineno)
            links += [nodes.reference("", file, refuri=url), nodes.Text(", ")]
        links.pop()
        return links


def _tabs(found: dict[str, sources.Named]) -> list[str]:
    """The signatures: tabs that switch together, or one block where there is one package."""
    blocks = [["```python", signature(package, node), "```", *_example(node)] for package, node in found.items()]
    if len(blocks) == 1:
        return blocks[0]
    lines = ["::::{tab-set}", ":sync-group: framework", ""]
    for framework, block in zip(FRAMEWORKS, blocks, strict=True):
        column = framework.package.removesuffix("_impl")
        lines += [f":::{{tab-item}} {framework.title}", f":sync: {column}", *block, ":::", ""]
    return [*lines, "::::"]


def _example(node: sources.Named) -> list[str]:
    """What the docstring ends with, which is each framework's own."""
    _, arrow, code = (ast.get_docstring(node) or "").partition("\n>>> ")
    return ["", "```pycon", f">>> {code}", "```"] if arrow else []


def signature(package: str, node: sources.Named) -> str:
    """How it is called: of a class, its constructor, which a base class may have."""
    function = _constructor(package, node) if isinstance(node, ast.ClassDef) else node
    if function is None:
        return f"class {node.name}"
    arguments, start = _arguments(function.args), "class " if node is not function else "def "
    returns = [ast.unparse(one) for one in _alternatives(function.returns)] if node is function else []
    arrow = f" -> {' | '.join(returns)}" if returns else ""
    line = f"{start}{node.name}({', '.join(arguments)}){arrow}"
    if len(line) > WIDTH:
        arrow = arrow if len(arrow) <= WIDTH else " -> (\n    " + "\n    | ".join(returns) + "\n)"
        line = f"{start}{node.name}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){arrow}"
    return line.replace("'", '"')


def _alternatives(returns: ast.expr | None) -> list[ast.expr]:
    """What it may return: the sides of its bars."""
    if isinstance(returns, ast.BinOp):
        return [*_alternatives(returns.left), *_alternatives(returns.right)]
    return [returns] if returns else []


def _constructor(package: str, node: ast.ClassDef) -> ast.FunctionDef | None:
    """The constructor of a class, or of its first base in the package that has one."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return method
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    for name, nodes_ in sources.definitions(package).items():
        if name.rpartition(".")[2] in bases and isinstance(nodes_[-1], ast.ClassDef):
            return _constructor(package, nodes_[-1])
    return None


def _arguments(of: ast.arguments) -> list[str]:
    """Each as it is written, without self."""
    written = [*of.posonlyargs, *of.args]
    defaults = [None] * (len(written) - len(of.defaults)) + [*of.defaults]
    found = [_argument(*pair) for pair in zip(written, defaults, strict=True) if pair[0].arg != "self"]
    if of.vararg or of.kwonlyargs:
        found.append(f"*{_argument(of.vararg, None)}" if of.vararg else "*")
    found += [_argument(*pair) for pair in zip(of.kwonlyargs, of.kw_defaults, strict=True)]
    return found + ([f"**{_argument(of.kwarg, None)}"] if of.kwarg else [])


def _argument(of: ast.arg, default: ast.expr | None) -> str:
    kind = f"{of.arg}: {ast.unparse(of.annotation)}" if of.annotation else of.arg
    return kind if default is None else f"{kind} = {ast.unparse(default)}"


def _prose(node: sources.Named) -> Iterator[str]:
    """The docstring as Markdown; then, of a class, its attributes."""
    blocks = re.split(r"\n\n(?! )", ast.get_docstring(node) or "")
    for block in blocks:
        first, _, rest = block.partition("\n")
        if section := SECTION.fullmatch(first):
            yield from _section(section[1], textwrap.dedent(rest))
        elif not block.startswith(">>> "):
            yield from [_escaped(block), ""]
    yield from _attributes(node)


def _section(title: str, text: str) -> Iterator[str]:
    if title == "Example":
        before, arrow, code = text.partition(">>>")
        yield from [before, "```pycon", f"{arrow}{code}".strip(), "```", ""]
        return
    yield from [f"**{title}**", ""]
    entries = re.sub(r"\n +", " ", text).splitlines()
    if not all(ENTRY.match(entry) for entry in entries):
        yield from [_escaped(text), ""]
        return
    for entry in entries:
        name, _, words = entry.partition(": ")
        yield f"- `{name}`: {_escaped(words)}"
    yield ""


def _escaped(text: str) -> str:
    """Stars and angle brackets are themselves in docstrings."""
    return re.sub(r"(?m)^(?!    ).*$", lambda line: re.sub(r"([*<])", r"\\\1", line[0]), text)


def _attributes(node: sources.Named) -> Iterator[str]:
    """Of a class, the attributes that a docstring follows: value and words."""
    for one, after in pairwise(node.body if isinstance(node, ast.ClassDef) else ()):
        if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            value, words = ast.unparse(one).replace("'", '"'), ast.literal_eval(after.value)
            yield f"- `{value}`: {_escaped(' '.join(words.split()))}"
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("api", Api)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
