"""How Sphinx builds the site: ``sphinx-build -W --keep-going docs docs/_build``."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from generated_pages import code_facts, write_pages  # noqa: E402  beside this file
from measured_numbers import measured_numbers  # noqa: E402

project = "diffrelax"
author = "The diffrelax developers"
copyright = author
version = release = version_of("diffrelax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"diffrelax {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = code_facts() | measured_numbers(HERE.parent / "analysis" / "results")

autodoc_typehints = "none"  # the docstrings have types, with shapes and units
autodoc_member_order = "bysource"
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
maximum_signature_line_length = 80


def setup(app):
    """Write the generated pages before the others are read."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "generated"))
    app.connect("autodoc-process-docstring", list_attributes, priority=0)


def list_attributes(app, what, name, obj, options, lines):
    """List the attributes of a class in short, as its parameters are."""
    lines[:] = ["Parameters" if line == "Attributes" else line for line in lines]
