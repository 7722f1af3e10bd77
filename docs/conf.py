"""How Sphinx builds these pages: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "metered-sansio"
copyright = "The metered-sansio authors"
release = version = version_of("metered-sansio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "metered_docs"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False

myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
