"""The site, built by `make docs`: the pages of this folder, and references that are made from the code itself."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from generated import fill

from mlanet.version import __version__

project = "mlanet"
author = "The mlanet developers"
copyright = "The mlanet developers, MIT licence"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["Thumbs.db", ".DS_Store"]

# Docstrings name code in single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Options are named with two hyphens, which must stay two.
smartquotes = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Publishers that answer no programs.
linkcheck_ignore = [r"https://doi\.org/10\.1021/"]
html_theme = "furo"
html_title = f"mlanet {release}"
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["mlanet.css"]
html_theme_options = {"top_of_page_buttons": []}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False


def setup(app: Sphinx) -> None:
    """Pages that hold a line `<!-- generated: NAME -->` get the reference of that name in its place."""
    app.connect("source-read", lambda _, __, source: source.__setitem__(0, fill(source[0])))
    app.connect("autodoc-process-docstring", _keep_bars)


def _keep_bars(_app: Sphinx, _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """A bar is the absolute value here, and no substitution of reStructuredText."""
    lines[:] = [line.replace("|", "\\|") for line in lines]
