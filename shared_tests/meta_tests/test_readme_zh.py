"""The Chinese README says what the English one does: section by section the same code, output, figures and links."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<table>.*?</table>|```(\w+)\n.*?```", re.DOTALL)
ONLY_ENGLISH = {"links": ["README.zh-CN.md"]}
ONLY_CHINESE = {"links": ["README.md", "docs/glossary.md"], "figures": ["10.5"]}
"""What each has more: the way to the other, and the section's number in the Chinese edition."""


def sections(name):
    return re.split(r"^## ", (ROOT / name).read_text(), flags=re.MULTILINE)


def without_comments(block):
    """Of commands: their comments are in either language."""
    return re.sub(r" +#.*", "", block[0]) if block[1] == "sh" else block[0]


def facts(section):
    """What does not depend on the language; of prose, whatever its order."""
    prose = BLOCK.sub("", section)
    code = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
    links = re.findall(r"\]\(([^)]+)\)", prose)
    words = re.sub(r"`[^`]+`|\]\([^)]+\)", "", prose)
    return {
        "blocks": [without_comments(block) for block in BLOCK.finditer(section)],
        "code": Counter(code),
        "links": Counter(links),
        "figures": Counter(re.findall(r"\d+(?:[.,]\d+)*", words)),
        "images": prose.count("!["),
        "paragraphs in bold": len(re.findall(r"^\*\*", prose, re.MULTILINE)),
    }


def test_there_are_as_many_sections():
    assert len(sections("README.md")) == len(sections("README.zh-CN.md"))


@pytest.mark.parametrize("number", range(len(sections("README.md"))))
def test_a_section_has_the_same_code_figures_and_links(number):
    """In the order of the English one; what both may have more stands above."""
    english, chinese = (facts(sections(name)[number]) for name in ("README.md", "README.zh-CN.md"))
    for kind in english:
        if kind in ONLY_CHINESE:
            english[kind] -= Counter(ONLY_ENGLISH.get(kind, ()))
            chinese[kind] -= Counter(ONLY_CHINESE[kind])
        assert chinese[kind] == english[kind], kind


def test_the_two_link_to_each_other():
    for name, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        assert f"]({other})" in sections(name)[0]


def test_what_is_linked_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.zh-CN.md").read_text()):
        assert (ROOT / link).exists(), link
