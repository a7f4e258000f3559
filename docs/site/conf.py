"""Configures Sphinx: `make docs`. The pages are collected and generated before Sphinx reads them."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[2]))

from docs.site import pages  # found by the line above

project = "experiments"
extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]  # JSON and Python with "…" in it
html_theme = "pydata_sphinx_theme"
html_title = "experiments"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars: dict[str, list[str]] = {
    page: [] for page in ("index", "start", "exercises", "notebooks", "gallery", "other-tools", "faq", "changes")
}
html_use_index = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
}


def setup(app: Sphinx) -> None:
    """Write the pages where Sphinx will read them."""
    pages.write(app.srcdir)
