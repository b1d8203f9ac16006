"""The site: it is built without a framework, shows every function once, and all that it links to is there."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from shared_tests import sources
from shared_tests.frameworks import OURS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Page(HTMLParser):
    """The links, anchors, and what is loaded, of a page of the site."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.loaded, self.shown, self.text = [], set(), [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "source", "iframe") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") not in ("canonical",):
            self.loaded.append(found["href"])
        self.shown += found.get("data-names", "").split()

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def pages(site):
    """Page by path; less those that the theme makes of nothing, and redirects."""
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    return {path.relative_to(site).as_posix(): Page(path) for path in paths}


def test_every_function_stands_in_one_mirror(pages):
    """And every class and method, private ones too: each line of the packages is on one page."""
    shown = Counter(name for page in pages.values() for name in page.shown)
    assert {name for name, times in shown.items() if times > 1} == set()
    assert wanting(shown) == set()
    assert len(shown) > 150


def wanting(shown):
    return {f"{package}:{name}" for package in OURS for name in sources.definitions(package)} - set(shown)


def test_one_that_is_left_out_is_seen(pages):
    shown = [name for path, page in pages.items() if path != "compare/heads.html" for name in page.shown]
    assert {"torch_impl:heads.prune_heads", "tf_impl:heads.head_importance", "jax_impl:heads._part"} <= wanting(shown)


def test_all_that_is_linked_to_is_there(pages, site):
    links = {(path, link) for path, page in pages.items() for link in (*page.links, *page.loaded)}
    assert [pair for pair in links if not leads(site, pages, *pair)] == []
    assert len(links) > 1000


def leads(site, pages, path, link):
    """Whether a link from a page leads to a file of the site, and there to an anchor; to other hosts it may."""
    url = urlsplit(link)
    target = (site / path).parent / unquote(url.path) if url.path else site / path
    if url.scheme or url.netloc:
        return True
    if not target.is_file() or not target.resolve().is_relative_to(site.resolve()):
        return False
    page = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
    return not url.fragment or page is None or unquote(url.fragment) in page.ids


@pytest.mark.parametrize(("link", "right"), [("", True), ("#the-call", True), ("#the-cal", False), ("x", False)])
def test_a_link_that_leads_nowhere_is_seen(pages, site, link, right):
    assert leads(site, pages, "compare/index.html", f"layer.html{link}") is right


def test_nothing_is_loaded_from_elsewhere(pages, site):
    outside = {link for page in pages.values() for link in page.loaded if urlsplit(link).netloc}
    assert outside == set()
    styles = [path.read_text(errors="replace") for path in site.rglob("*.css")]
    assert not [style for style in styles if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style)]


def test_the_bar_has_five_entries(site):
    bar = (site / "index.html").read_text().split('class="bd-navbar-elements')[1].split("</ul>")[0]
    assert re.findall(r'href="([^"]+)"', bar) == [
        "compare/index.html", "port.html", "upgrade.html", "reference.html", "why.html",
    ]  # fmt: skip


def test_the_landing_page_has_three_errands_each_one_click_and_one_command(site):
    text = (site / "index.html").read_text()
    errands = re.search(r'<div class="[^"]* errands .*?(?=<section|</article)', text, re.DOTALL)[0]
    assert re.findall(r'href="([^"]+)"', errands) == ["compare/index.html", "port.html", "upgrade.html"]
    assert re.findall(r"trihead(?:</span>)? (\w+)", re.sub(r"<[^>]+>", "", errands)) == ["show", "verify", "drift"]


def test_the_old_address_leads_on(site):
    assert "compare/index.html" in (site / "idioms.html").read_text()


def test_search_finds_a_function(site):
    text = (site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    found = index["titleterms"]["masked_softmax"]
    names = {index["docnames"][number] for number in ([found] if isinstance(found, int) else found)}
    assert names == {"api", "compare/scoring"}
    assert "masked_softmax" in index["terms"]  # of other pages


def test_it_can_be_read_as_plain_text(site):
    assert "(compare/scoring.md)" in (site / "llms.txt").read_text()
    text = (site / "compare" / "scoring.md").read_text()
    for package in OURS:
        for name in ("attention.masked_softmax", "attention.ScoredAttention.call"):
            assert f"```python\n{sources.joined(sources.find(package, name))}\n```" in text
    assert "<span" not in text


@pytest.fixture
def small(tmp_path, sphinx):
    """A site of one page, over packages that may be changed: the folder, and what builds the page."""
    for name in (*OURS, "docs/_ext", "docs/_static", "docs/_templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "shared_tests").mkdir()
    for name in ("pyproject.toml", "docs/conf.py", *(f"shared_tests/{n}.py" for n in NEEDED)):
        shutil.copy(ROOT / name, tmp_path / name)

    def build(mirror=None):
        if mirror:
            (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{mirror}")
        return sphinx(tmp_path / "docs", tmp_path / "out")

    return tmp_path, build


NEEDED = "__init__", "frameworks", "mirrors", "sources"


MIRROR = ":::{mirror} attention.as_lengths\n:jax: none\n:tf: none\ntorch: One.\njax: Two.\ntf: Three.\n:::\n"


def test_a_change_of_a_function_is_on_its_page_after_a_rebuild(small):
    folder, build = small
    built = build(MIRROR)
    assert built.returncode == 0, built.stderr
    source = folder / "torch_impl" / "attention.py"
    source.write_text(source.read_text().replace("device=beside.device)", "device=beside.device, copy=True)"))
    assert "copy=" not in Page(folder / "out" / "index.html").text
    assert build().returncode == 0
    assert "copy=True" in Page(folder / "out" / "index.html").text


WRONG = [
    (MIRROR.replace("as_lengths", "as_length"), "torch_impl: expected a function, method or class called"),
    (
        MIRROR.replace(":jax: none", ":jax: attention.as_lengths"),
        "jax_impl: expected a function, method or class called",
    ),
    (MIRROR.replace("jax: Two.\n", ""), "expected a sentence for torch, jax, tf, got torch, tf"),
    (MIRROR.replace("torch: One.", "One."), "expected a line such as 'torch: …', got 'One.'"),
    (MIRROR.replace(":tf:", ":keras:"), "keras"),
    (MIRROR.replace(":jax:", ":torch: none\n:jax:"), "expected a column with something in it, got none"),
    (":::{mirror} attention.DotProductAttention\n:only: scored\ntorch: a\njax: b\ntf: c\n:::\n", "to have scored"),
    (
        ":::{mirror} checks.check_heads\ntorch: a\njax: b\ntf: c\n:::\n",
        "expected a sentence for all, got torch, jax, tf",
    ),
]


def test_a_wrong_mirror_fails_the_build_in_one_line(small):
    """A function that was renamed, for one; each is named with its page and line."""
    built = small[1]("\n".join(mirror for mirror, _ in WRONG))
    assert built.returncode == 1
    assert "Traceback" not in built.stderr
    for _, words in WRONG:
        assert any(words in line and re.search(r"index\.md:\d+: ", line) for line in built.stderr.splitlines()), words


def test_pages_that_are_read_on_github_are_plain_markdown():
    """What stood before the site is read there, too: no directives."""
    own = {"index.md", "api.md", "devices.md", "port.md", "upgrade.md", "reference.md", "why.md"}
    for path in [*DOCS.glob("*.md"), *(DOCS / "adr").glob("*.md")]:
        if path.name not in own:
            assert not re.search(r"^(:::|```\{)", path.read_text(), re.MULTILINE), path.name
