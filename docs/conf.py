"""The site, built by `make docs`. It imports no framework: sources are parsed."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "trihead"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]
project_copyright = "the trihead authors, MIT license"
extensions = [
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_reredirects",
    "sphinx_llm_friendly",
    "anchors",
    "api",
    "clauses",
    "mathml",
    "mirror",
    "source_pages",
    "tables",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True
highlight_language = "none"
myst_enable_extensions = ["colon_fence", "attrs_block", "deflist", "dollarmath", "tasklist"]
myst_heading_anchors = 4
redirects = {"idioms": "compare/index.html"}
copybutton_selector = "div.highlight pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
llm_friendly_llms_txt_summary = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["description"]

html_theme = "pydata_sphinx_theme"
html_title = "trihead"
html_math_renderer = "mathml"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css", "mirror.css"]
html_js_files = [("mirror.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
WIDE = (
    "compare/index",
    "compare/scoring",
    "compare/layer",
    "compare/weights",
    "compare/fused",
    "compare/heads",
    "compare/parallel",
)
html_sidebars = {"index": [], "compare/*": [], "source/**": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "trihead"},
    "navbar_align": "left",
    "show_toc_level": 2,
    "header_links_before_dropdown": 5,
    "article_header_start": ["breadcrumbs", "siblings"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], **{page: [] for page in WIDE}},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "github-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
    "use_edit_page_button": False,
}
