"""The site that `make docs` makes of these pages."""

import importlib.metadata
import re
from pathlib import Path

project   = "terngen"
author    = "the authors of terngen"
copyright = "the authors of terngen, Apache-2.0"
release   = importlib.metadata.version("terngen")

extensions = ["myst_nb"]
html_theme = "furo"
html_title = "terngen"
exclude_patterns = ["build"]

myst_heading_anchors = 3
# The notebook is stored with its results; a test runs it again.
nb_execution_mode = "off"


def _outside(match):
    """A link to what is in the repository and not on the site: a file comes along, of a folder stays the name."""
    text, target = match.groups()
    path = Path(__file__).parent / target
    if (path / "README.md").exists():
        target, path = f"{target}/README.md", path / "README.md"
    return text if path.is_dir() else f"[{text}](path:{target})"


def _read(app, name, source):
    source[0] = re.sub(r"\[([^\]\n]*)\]\((\.\./[^)#\s]*)\)", _outside, source[0])


def setup(app):
    app.connect("source-read", _read)
