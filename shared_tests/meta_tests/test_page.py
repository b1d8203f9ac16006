"""The page of `trihead verify --html`: what it says, that it needs nothing, and how it stands in a browser."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shared_tests import drift, judge, record
from shared_tests.cases.table import CASES
from shared_tests.faults.catalogue import named
from shared_tests.faults.diagnosis import diagnose
from shared_tests.faults.planted import Planted
from shared_tests.harness.clauses import CLAUSES
from shared_tests.harness.report import describe
from shared_tests.studies import page as pages
from shared_tests.studies.attention_maps import heatmaps
from shared_tests.studies.drift_page import drift_page
from shared_tests.studies.histograms import histograms
from shared_tests.studies.verdict_page import verdict_page

PORT = Path(__file__).parents[2] / "docs" / "my_port.py"
FEW = {name: CASES[name] for name in ("book", "lengths per query", "zero lengths")}
FACTS = {"date": "2026-11-24", "processor": "any", "trihead": "0.1.0", "jax": "not installed"}
HOSTILE = "</title><script>alert(1)</script><img src=x onerror='alert(2)'>\""


class Page(HTMLParser):
    """The elements of a page, and the text of each row of its tables."""

    def __init__(self, text):
        super().__init__()
        self.text, self.elements, self.rows, self.inside = "", [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("th", "td")

    def handle_data(self, data):
        self.text += data
        if self.inside:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def planted(name, *faults, **options):
    subject = Planted(*map(named, faults), **options)
    subject.name = name
    return subject


class Raising(Planted):
    def forward(self, model, queries, keys, values, valid_lens):
        if valid_lens is not None and valid_lens.ndim == 2:
            raise RuntimeError(HOSTILE)
        return super().forward(model, queries, keys, values, valid_lens)


@pytest.fixture(scope="module")
def holding():
    return judge(planted("one"), planted("two"), planted("three"), cases=FEW)


@pytest.fixture(scope="module")
def failing():
    subject = planted("wrong", "mask-tiled-over-heads")
    return judge(subject, cases=FEW), diagnose(subject)


@pytest.fixture(scope="module")
def written(holding, failing):
    """Pages by name."""
    report, diagnosis = failing
    found = {
        "holding": verdict_page(holding, [], FACTS),
        "failing": verdict_page(report, [(diagnosis, ["masks = ('none',)"])], FACTS),
    }
    old, new = (record(subject, cases=FEW) for subject in (planted("one"), planted("one", "mask-one-too-long")))
    found["moved"] = drift_page(drift(old, new), FACTS)
    found["unmoved"] = drift_page(drift(old, old), FACTS)
    return {name: data.decode() for name, data in found.items()}


@pytest.mark.parametrize("name", ["holding", "failing"])
def test_the_table_is_that_of_the_terminal(holding, failing, written, name):
    report, page = holding if name == "holding" else failing[0], Page(written[name])
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["clause"] == (["one", "two", "three"] if name == "holding" else ["wrong"])
    for clause, title in CLAUSES.items():
        cells = {subject: report.cells[clause, subject] for subject in report.subjects}
        expected = [describe(cell) if cell else report.missing(clause, subject) for subject, cell in cells.items()]
        assert rows[f"{clause} {title}"] == expected
    assert " ".join(page.text.split()).count(report.verdict()) == 1
    assert rows["processor"] == ["any"]
    assert "jax" not in rows


def test_a_failing_port_is_diagnosed(failing, written):
    report, diagnosis = failing
    text = " ".join(Page(written["failing"]).text.split())
    assert "✗ FAILS: wrong: clauses " in text
    for line in [*report.causes(), *diagnosis.words.splitlines(), "masks = ('none',)"]:
        assert line.strip() in text
    assert "mask-tiled-over-heads" in text
    assert f"First stage that parts: {diagnosis.stage}" in text
    assert "next: trihead diagnose" not in text
    assert "next: trihead diagnose --subject" in verdict_page(report, [], FACTS).decode()


def test_what_moved_is_said_in_the_words_of_the_terminal(written):
    old, new = (record(subject, cases=FEW) for subject in (planted("one"), planted("one", "mask-one-too-long")))
    found, page = drift(old, new), Page(written["moved"])
    assert not found.holds
    for row in found.rows:
        assert [f"{row.clause} {CLAUSES[row.clause]}", row.subject, *row.cells()] in page.rows
    text = " ".join(page.text.split())
    assert found.verdict() in text
    assert "✗" in text
    assert all(" ".join(line.split()) in text for line in found.lines())
    assert "✓ UNMOVED" in " ".join(Page(written["unmoved"]).text.split())


@pytest.mark.parametrize("name", ["holding", "failing", "moved", "unmoved"])
def test_a_page_needs_nothing_else(written, name):
    page = Page(written[name])
    assert not re.search(r"https?:|@import|url\(", written[name])
    assert not page.named("script")
    places = [value for _, found in page.elements for key, value in found.items() if key in ("src", "href", "data")]
    assert places
    assert all(place.startswith("#") or place == "data:," for place in places)
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {place[1:] for place in places if place[0] == "#"} <= set(ids)
    assert len(page.named("h1")) == 1


def test_what_a_port_says_is_text():
    subject = Raising()
    subject.name = HOSTILE
    report = judge(subject, cases=FEW)
    page = Page(verdict_page(report, [(diagnose(subject), [HOSTILE])], FACTS).decode())
    assert not page.named("script") + page.named("img")
    assert f"RuntimeError: {HOSTILE}" in page.text
    assert not any(key.startswith("on") for _, found in page.elements for key in found)


def test_a_name_that_is_no_unicode_is_written():
    report = judge(planted("\udc80"), cases={"book": CASES["book"]})
    assert b"Multi-head attention: ?" in verdict_page(report, [], FACTS)


def test_histograms_are_of_all_that_was_compared_in_sigma(holding, failing):
    drawn = histograms(holding)
    assert [(one.subject, one.dtype) for one in drawn[:3]] == [("one", ""), ("two", ""), ("three", "")]
    counted = {"float64": 0, "float32": 0, "": 0}
    for finding in holding.findings:
        if finding.subject == "one" and finding.verdict.histogram:
            counted[finding.dtype] += sum(finding.verdict.histogram)
            counted[""] += sum(finding.verdict.histogram)
    mine = {one.dtype: one for one in drawn if one.subject == "one"}
    assert {dtype: one.total for dtype, one in mine.items()} == counted
    assert counted["float64"] + counted["float32"] == counted[""] > 1000
    assert mine[""].beyond == 0
    heights = [(count, height) for _, height, count in mine[""].bars()]
    assert heights == [(count, pytest.approx(height)) for count, height in heights]
    assert all((height > 0) == (count > 0) for count, height in heights)
    (wrong, *_) = histograms(failing[0])
    assert wrong.beyond == sum(f.verdict.failed for f in failing[0].findings if f.verdict.histogram) > 100


def test_the_curve_is_half_a_normal_distribution(holding):
    one = histograms(holding)[0]
    points = [tuple(map(float, point.split(","))) for point in one.curve().split()]
    first = one.total * 0.1974126513658474  # erf(1/4 / sqrt(2)): what lies within a quarter of sigma
    assert points[0][1] == pytest.approx(168 - one._height(first), abs=0.06)
    assert all(above[1] < below[1] for above, below in pairwise(points))


def test_maps_are_of_the_book_and_differ_by_noise(holding):
    maps = heatmaps(holding)
    assert maps.case == "book"
    assert [row.title for row in maps.rows] == ["oracle", "one", "two", "three", "largest difference between two"]
    assert maps.columns == [f"Head {i}" for i in range(1, 6)]
    oracle, one, *_, difference = maps.rows
    np.testing.assert_allclose(one.values, oracle.values, atol=1e-15)
    assert oracle.values.shape == (5, 4, 6)
    assert (difference.values == 0).all()  # the three are one and the same
    assert oracle.marked(0.0)
    assert not oracle.marked(0.5)
    assert difference.marked(8.1)
    assert not difference.marked(7.9)


@pytest.mark.parametrize(("factor", "off"), [(1 + 2**-52, False), (1 + 2**-40, True)])
def test_a_map_shows_how_two_differ(factor, off):
    class Other(Planted):
        def forward(self, *inputs):
            output, weights = super().forward(*inputs)
            return output, weights * factor

    other = Other()
    other.name = "other"
    difference = heatmaps(judge(planted("one"), other, cases={"book": CASES["book"]})).rows[-1]
    assert bool(difference.values.max() > 8) is off
    assert (difference.values > 0).any()
    assert difference.full == min(difference.values.max(), 8)


def test_a_map_shows_where_a_port_is_wrong(failing):
    maps = heatmaps(failing[0])
    assert [row.title for row in maps.rows] == ["oracle", "wrong", "difference from the oracle"]
    wrong, difference = maps.rows[1:]
    assert difference.full == 8
    assert {difference.shade(x) for x in difference.values[difference.values > 8]} == {1.0}
    assert (difference.values[0] < 8).all()  # tiled over heads, the first has its own lengths
    assert (difference.values[1] > 8).any()
    assert wrong.shade(float("nan")) == 0


@pytest.mark.parametrize("method", ["averaged", "none", "of another shape"])
def test_maps_of_other_attention_weights(method):
    class Port(Planted):
        attention_weights = "per head"

        def forward(self, *inputs):
            output, weights = super().forward(*inputs)
            if method == "none":
                return output
            return output, weights.mean(axis=1) if method == "averaged" else weights.swapaxes(1, 2)

    other = Port()
    other.name, other.attention_weights = "other", method if method in ("averaged", "none") else "per head"
    alone = heatmaps(judge(other, cases={"book": CASES["book"]}))
    beside = heatmaps(judge(planted("one"), other, cases={"book": CASES["book"]}))
    if method == "none":  # they are told from outputs
        assert alone.rows[1].title == "other"
        assert beside.absent == {}
    elif method == "averaged":
        assert alone.columns == ["all heads"]
        assert beside.absent == {"other": "attention weights of shape (2, 4, 6), expected (2, 5, 4, 6)"}
    else:
        assert beside.absent == {"other": "attention weights of shape (2, 4, 5, 6), expected (2, 5, 4, 6)"}
        assert alone.rows == []


def test_a_page_without_attention_weights_says_so():
    subject = planted("no float64")
    subject.dtypes = ("float32",)
    report = judge(subject, cases={"book": CASES["book"]})
    assert "no float64 is not shown: no attention weights in float64." in verdict_page(report, [], FACTS).decode()


def verify(*arguments, **options):
    command = [sys.executable, "-m", "shared_tests", "verify", "--subject", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_verify_writes_the_page_with_the_diagnosis(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(PORT.read_text().replace("np.sqrt(q.shape[-1]", "np.sqrt(heads * q.shape[-1]"))
    done = verify(f"{wrong}:MyPort", "--html", tmp_path / "page.html")
    assert done.returncode == 1
    assert done.stderr == ""
    text = " ".join(Page((tmp_path / "page.html").read_text()).text.split())
    assert done.stdout.splitlines()[0] in text
    assert "scale-of-hidden: matches the oracle, every element within " in text


def test_bad_use_is_one_line_before_anything_is_judged(tmp_path):
    (tmp_path / "jinja2.py").write_text("raise ModuleNotFoundError('no such module', name='jinja2')")
    path = f"{tmp_path}{os.pathsep}{PORT.parents[1]}"
    done = verify(f"{PORT}:MyPort", "--html", tmp_path / "page.html", env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 2
    assert done.stderr == "trihead: jinja2: expected it to be installed (pip install 'trihead[report]'), got none\n"
    assert done.stdout == ""
    done = verify(f"{PORT}:MyPort", "--html", "no/such/page.html")
    assert done.returncode == 2
    assert done.stderr == "trihead: --html: expected a file in an existing folder, got no/such/page.html\n"


def test_a_template_that_asks_for_what_it_is_not_given_is_an_error():
    with pytest.raises(Exception, match="'report' is undefined"):
        pages.render("verify.html.j2", facts=FACTS, sections=[])


@pytest.fixture
def opened(browser, written, tmp_path):
    """Opens a page; everything that it asks for, and everything that the browser complains of, is in the lists."""

    def open_page(name, width, scheme="light"):
        (tmp_path / "page.html").write_text(written[name])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.goto((tmp_path / "page.html").as_uri())
        for summary in page.query_selector_all("summary"):
            summary.click()
        return page

    yield open_page
    for context in browser.contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["holding", "failing", "moved"])
def test_a_page_fits_and_axe_finds_nothing(opened, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    bright = sum(
        map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.documentElement).backgroundColor")))
    )
    assert bright > 600 if scheme == "light" else bright < 150
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert [url.split(":")[0] for url in page.requested if url != "data:,"] == ["file"]
    assert page.complaints == []


@pytest.mark.parametrize("name", ["holding", "failing"])
def test_a_keyboard_reaches_all_that_moves(opened, name):
    page = opened(name, 390)
    page.evaluate("document.activeElement.blur()")
    page.mouse.click(1, 1)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.outerHTML.split('>')[0]"))
    assert 'class="skip"' in reached[0]
    regions = re.findall(r'<div class="scroll"[^>]*', page.content())
    assert len(regions) == (2 if name == "holding" else 3)
    assert {*regions} <= {*reached}
    assert sum("<summary" in one for one in reached) >= 2


def test_a_wide_table_moves_within_itself(opened):
    page = opened("holding", 320)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.focus("[aria-label^='The parity table']")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    moved = "document.querySelector('[aria-label^=\"The parity table\"]').scrollLeft > 0"
    assert any(page.evaluate(moved) or page.wait_for_timeout(100) for _ in range(50))
    assert page.evaluate("scrollX") == 0
