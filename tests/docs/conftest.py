"""Pages of the documentation, and where their commands run."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from terngen.host import cli


def read(root):
    """Text of each page, by its path."""
    paths = [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "models").glob("*/README.md"))]
    return {path: path.read_text() for path in paths}


@pytest.fixture(scope="session")
def pages(root):
    return read(root)


def pytest_generate_tests(metafunc):
    """A test with ``long_command`` is one for each command that its module picks from the pages."""
    if "long_command" in metafunc.fixturenames:
        picked = metafunc.module.pick(read(Path(__file__).resolve().parents[2]))
        metafunc.parametrize("long_command", picked, ids=picked.values())


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    """A folder with what the commands of the pages name."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("models", "tests"):
        (folder / name).symlink_to(root / name)
    for name in ("LICENSE", "fairy-valid.txt", "text.txt", "valid.txt"):
        shutil.copy(root / "LICENSE", folder / name)        # because some pages write such a file
    (folder / "found").mkdir()
    done = CliRunner().invoke(cli.cli, ["estimate", str(root / "models/fairy-1m"), "--json"], prog_name="terngen")
    (folder / "found" / "estimate.json").write_text(done.stdout)
    return folder
