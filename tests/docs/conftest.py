"""Pages of the documentation, and where their commands run."""

import pytest


@pytest.fixture(scope="session")
def pages(root):
    """Text of each page, by its path."""
    paths = [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "models").glob("*/README.md"))]
    return {path: path.read_text() for path in paths}


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """A folder with what the commands of the pages name."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("models", "tests", "LICENSE"):
        (folder / name).symlink_to(root / name)
    return folder
