"""The site in a browser: three widths, light and dark, with and without its script, on paper, to a screen reader."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared_tests import sources
from shared_tests.frameworks import FRAMEWORKS

TEMPLATES = [
    "index.html",
    "compare/index.html",
    "compare/scoring.html",
    "compare/checks.html",
    "port.html",
    "porting.html",
    "contract.html",
    "source/tf_impl/fused.html",
]
"""A page of each kind."""
COLUMNS = {390: 1, 1024: 2, 1440: 3}
SHOWN = "[...document.querySelectorAll('.mirror-column')].filter(e => e.offsetParent).map(e => e.ariaLabel)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def opened(browser, address):
    """Opens a page; all that it asks for, and all that the browser complains of, is in lists."""

    def open_page(path, width=1440, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda one: page.complaints.append(one.text) if one.type in ("error", "warning") else None)
        page.goto(address + path)
        return page

    yield open_page
    for context in browser.contexts:
        context.close()


def top(page, selector):
    return page.locator(selector).first.evaluate("e => e.getBoundingClientRect().top")


def has_no_overflow(page, width):
    return page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_page_fits_and_asks_for_nothing_elsewhere(opened, address, path):
    page = opened(path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        for width, columns in COLUMNS.items():
            page.set_viewport_size({"width": width, "height": 800})
            assert has_no_overflow(page, width)
            assert path != "compare/scoring.html" or len({*page.evaluate(SHOWN)}) == columns
        colours = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
        bright = sum(map(int, colours[:3]))
        assert bright > 700 if scheme == "light" else bright < 150
    assert all(url.startswith(address) for url in page.requested)
    assert page.complaints == []


def test_no_page_is_wider_than_a_phone(opened, address, site):
    page = opened("index.html", 390)
    wide = []
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        if name != "idioms.html" and not name.startswith("_static"):
            page.goto(address + name)
            wide += [name] if not has_no_overflow(page, 390) else []
    assert wide == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
@pytest.mark.parametrize("path", TEMPLATES)
def test_axe_finds_nothing(opened, path, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened(path, width, scheme))
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("path", "wide"), [("compare/fused.html", 3), ("compare/scoring.html", 4)])
def test_lines_that_share_a_row_stand_beside_each_other(opened, path, wide):
    """On pages with at least so many mirrors of three columns."""
    page = opened(path)
    rows = page.evaluate("""[...document.querySelectorAll('.mirror:not(.mirror-same)')].map(mirror =>
        [...mirror.querySelectorAll('pre')].map(pre =>
            [...pre.children].map(line => Math.round(line.getBoundingClientRect().top * 2))))""")
    assert sum(len(columns) == 3 for columns in rows) >= wide
    for columns in rows:
        assert all(column == columns[0] for column in columns)


def test_a_line_that_wraps_hides_no_other(opened):
    page = opened("compare/scoring.html", 1024)
    heights = page.evaluate("""[...document.querySelectorAll('.mirror pre .line')].filter(e => e.offsetParent)
        .map(e => e.scrollHeight - e.clientHeight)""")
    assert len(heights) > 100
    assert max(heights) <= 1


@pytest.mark.parametrize("width", COLUMNS)
@pytest.mark.parametrize(("name", "anchor"), [("PyTorch", "auto"), ("TensorFlow", "auto"), ("TensorFlow", "none")])
def test_the_switch_moves_what_is_read_by_less_than_two_pixels(opened, width, name, anchor):
    """Also where a browser does not hold what is read by itself, as Safari."""
    page = opened("compare/layer.html", width)
    page.add_style_tag(content=f"html {{ overflow-anchor: {anchor}; }}")
    page.evaluate("document.querySelectorAll('.mirror')[3].scrollIntoView({behavior: 'instant'})")
    page.evaluate("scrollBy({top: 60, behavior: 'instant'})")
    before = page.evaluate("document.querySelectorAll('.mirror')[3].getBoundingClientRect().top")
    shown = page.evaluate(SHOWN)
    page.get_by_role("button", name=name, exact=True).click()
    after = page.evaluate("document.querySelectorAll('.mirror')[3].getBoundingClientRect().top")
    assert abs(after - before) < 2
    assert page.evaluate(SHOWN) != shown or (width, name) == (390, "PyTorch")


def test_a_choice_is_kept_in_the_address_and_on_other_pages(opened, address):
    page = opened("compare/layer.html")
    page.get_by_role("button", name="PyTorch", exact=True).click()
    assert {*page.evaluate(SHOWN)} == {"JAX", "TensorFlow"}
    assert page.url.endswith("layer.html?show=jax,tf")
    page.goto(f"{address}compare/heads.html")
    assert {*page.evaluate(SHOWN)} == {"JAX", "TensorFlow"}
    page.goto(f"{address}compare/index.html")
    assert page.locator(".idioms th:visible").all_inner_texts() == ["JAX", "TensorFlow"]


@pytest.mark.parametrize("width", COLUMNS)
def test_the_switch_stays_in_sight(opened, width):
    page = opened("compare/layer.html", width)
    page.evaluate("scrollTo({top: 1500, behavior: 'instant'})")
    header = page.evaluate("document.querySelector('.bd-header').getBoundingClientRect().bottom")
    assert header <= top(page, ".mirror-bar") < header + 20


def test_one_stays_shown(opened):
    page = opened("compare/layer.html?show=jax")
    assert {*page.evaluate(SHOWN)} == {"JAX"}
    page.get_by_role("button", name="JAX", exact=True).click()
    assert {*page.evaluate(SHOWN)} == {"JAX"}


@pytest.mark.parametrize("width", COLUMNS)
def test_a_link_leads_to_its_heading_and_its_columns(opened, width):
    page = opened("compare/heads.html?show=tf,jax,no-such#prune-heads", width)
    assert {*page.evaluate(SHOWN)} == ({"TensorFlow"} if width == 390 else {"JAX", "TensorFlow"})
    page.wait_for_function("scrollY > 0")
    page.wait_for_load_state("networkidle")
    bar = page.evaluate("document.querySelector('.mirror-bar').getBoundingClientRect().bottom")
    assert bar <= top(page, "#prune-heads h2") < 400


def test_what_is_copied_is_the_source(opened):
    page = opened("compare/layer.html", permissions=["clipboard-read", "clipboard-write"])
    for framework in FRAMEWORKS:
        column = page.locator(".mirror").nth(3).locator(f".of-{framework.package.removesuffix('_impl')}")
        source = sources.joined(sources.find(framework.package, "multihead.MultiHeadAttention.call"))
        column.hover()
        column.locator("button.copybtn").click()
        page.wait_for_timeout(100)
        assert page.evaluate("navigator.clipboard.readText()").rstrip("\n") == source
        selected = column.locator("pre").evaluate("e => (getSelection().selectAllChildren(e), String(getSelection()))")
        assert [line for line in selected.splitlines() if line.strip()] == [x for x in source.splitlines() if x.strip()]


def test_a_place_leads_to_its_line(opened):
    page = opened("compare/scoring.html")
    page.locator(".mirror-title a").first.click()
    (piece,) = sources.find("torch_impl", "attention.masked_softmax")
    assert page.url.endswith(f"source/torch_impl/attention.html#L-{piece.first}")
    assert 0 <= top(page, f"#L-{piece.first}") < 400


def test_without_a_script_all_is_there(opened):
    for width in COLUMNS:
        page = opened("compare/scoring.html", width, java_script_enabled=False)
        assert page.locator(".mirror-bar").count() == 0
        columns = page.locator(".mirror").first.locator(".mirror-column")
        boxes = [columns.nth(i).bounding_box() for i in range(3)]
        assert all(box["width"] > 300 for box in boxes)
        assert [box["y"] for box in boxes] == sorted(box["y"] for box in boxes)


def test_on_paper_the_columns_stand_below_each_other(opened):
    page = opened("compare/scoring.html", 1440)
    page.emulate_media(media="print")
    assert not page.locator(".mirror-bar").is_visible()
    columns = page.locator(".mirror").first.locator(".mirror-column")
    tops = [columns.nth(i).bounding_box()["y"] for i in range(3)]
    assert tops == sorted({*tops})
    mark = page.locator(".mirror .mark").first
    assert "underline" in mark.evaluate("e => getComputedStyle(e).textDecorationLine")


def test_a_screen_reader_hears_names_and_code(opened):
    page = opened("compare/scoring.html")
    heard = page.locator(".mirror").first.aria_snapshot()
    assert re.findall(r'group "(\w+)"', heard) == ["PyTorch", "JAX", "TensorFlow"]
    assert heard.count("def masked_softmax(") == 3
    bar = page.get_by_role("group", name="Frameworks shown")
    assert re.findall(r'button "(\w+)" \[pressed\]', bar.aria_snapshot()) == ["PyTorch", "JAX", "TensorFlow"]


def test_a_keyboard_works_the_switch(opened):
    page = opened("compare/scoring.html")
    page.get_by_role("button", name="PyTorch", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert {*page.evaluate(SHOWN)} == {"PyTorch", "TensorFlow"}
    assert page.evaluate("document.activeElement.textContent") == "JAX"


def test_search_finds_a_function(opened):
    page = opened("search.html?q=masked_softmax")
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").evaluate_all("links => links.map(e => e.getAttribute('href'))")
    assert any("compare/scoring.html" in link for link in found)
