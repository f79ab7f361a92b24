"""The site is made of the pages, and no link leads nowhere."""

import subprocess
import sys
import urllib.parse

import markdown_it
import pytest


@pytest.fixture(scope="module")
def site(root, tmp_path_factory):
    """The site, made as strictly as can be: each warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done   = subprocess.run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html",
                             "-d", str(folder / "trees"), str(root / "docs"), str(folder / "html")],
                            capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_pages(root, site):
    for path in [*(root / "docs").glob("*.md"), *(root / "docs").glob("*.ipynb")]:
        assert (site / path.stem).with_suffix(".html").exists(), path


def links(text):
    """Targets of a page's links and pictures."""
    for token in markdown_it.MarkdownIt("commonmark").enable("table").parse(text):
        for part in token.children or ():
            target = part.attrs.get("href") or part.attrs.get("src")
            if target:
                yield str(target)


def test_links(pages):
    """What a page links to in the repository is there. Sphinx looks at headings, and only where it reads."""
    count = 0
    for path, text in pages.items():
        for target in links(text):
            found = urllib.parse.urlsplit(target)
            if not found.scheme and found.path:
                assert (path.parent / urllib.parse.unquote(found.path)).exists(), f"{path}: {target}"
                count += 1
    assert count > 100
