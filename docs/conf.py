"""The documentation site: `make docs` builds it without a network into build/docs.

The source folder is the repository, so that a link works on the site and in the repository alike.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

import wirebert

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

project = "wirebert"
author = "The wirebert authors"
project_copyright = "The wirebert authors, Apache-2.0"
version = release = wirebert.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in PAGES]
suppress_warnings = ["myst.xref_not_included"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
python_use_unqualified_type_names = True
napoleon_custom_sections = ["Shape", "Source"]
nitpicky = True
# Types of other libraries, and of ours that are not public, have no page here.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"wirebert {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

SIDEBAR = {
    "Start": ["Overview <../README>", "tutorial"],
    "Tutorials": """tutorials/hunt tutorials/logs tutorials/research tutorials/operate python
    notebooks/first_detector""".split(),
    "How to": """howto/own_csv howto/map_columns howto/threshold howto/train_on_gpus howto/distill
    howto/no_labels howto/deploy howto/follow_logs monitor alerts howto/notice_drift howto/share
    howto/reproduce""".split(),
    "Reference": "cli settings api formats verdicts glossary".split(),
    "Background": """architecture scale results experiments decisions ../SECURITY ../CONTRIBUTING
    ../CHANGELOG""".split(),
}
"""Caption -> pages. Added here, since a page of the repository does not show directives."""


def complete(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add the sidebar to the first page, and autodoc's text to the Python reference."""
    if page == root_doc:
        for caption, pages in SIDEBAR.items():
            entries = "\n".join(pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"
    elif page == "docs/api":
        head, *names = re.split(r"^## (\w+)$.*?(?=^## |\Z)", source[0], flags=re.MULTILINE | re.DOTALL)
        source[0] = head + "\n\n".join(described(name) for name in names if name)


def described(name: str) -> str:
    """A section on a public name, from its docstring."""
    kind = "autoclass" if isinstance(getattr(wirebert, name), type) else "autofunction"
    return f"## {name}\n\n```{{eval-rst}}\n.. {kind}:: wirebert.{name}\n```"


def lead_to_the_first_page(app: Sphinx, error: Exception | None) -> None:
    """Write the index.html that a browser opens."""
    if error is None and app.builder.name == "html":
        page = '<meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">'
        Path(app.outdir, "index.html").write_text(page + "\n", encoding="utf-8")


def hide(_app: Sphinx, _what: str, name: str, _object: object, _skip: bool, _options: object) -> bool | None:
    """What scikit-learn adds to every estimator is described there."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def keep(_app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Remember a docstring before Napoleon reads it."""
    DOCSTRINGS[name] = list(lines)


def restore(_app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Undo what Napoleon does to attributes: it takes a colon for the end of a type."""
    if what in ("attribute", "property"):
        lines[:] = DOCSTRINGS[name]


DOCSTRINGS: dict[str, list[str]] = {}
"""Name -> the lines of its docstring."""


def setup(app: Sphinx) -> None:
    """What `conf.py` adds to Sphinx."""
    app.connect("source-read", complete)
    app.connect("build-finished", lead_to_the_first_page)
    app.connect("autodoc-skip-member", hide)
    app.connect("autodoc-process-docstring", keep, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
