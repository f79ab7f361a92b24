"""The installed package is the repository."""

import importlib
import importlib.metadata
import tomllib

import pytest

PARTS = ("hw", "sim", "host", "constraints")


@pytest.fixture(scope="module")
def pyproject(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_every_folder_is_listed(root, pyproject):
    """Setuptools ships only what is listed, and an editable install hides what is missing."""
    folders = {path.parent.relative_to(root) for part in PARTS for path in (root / part).rglob("*.py")}
    expected = {"terngen." + ".".join(folder.parts) for folder in folders}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == expected


def test_every_folder_is_a_package(root):
    folders = {path.parent for part in PARTS for path in (root / part).rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_imports_are_of_this_checkout(root, pyproject):
    for package in pyproject["tool"]["setuptools"]["packages"]:
        folder = root.joinpath(*package.split(".")[1:])
        assert importlib.import_module(package).__file__ == str(folder / "__init__.py")


def test_every_other_file_is_shipped(root, pyproject):
    """Sources of other languages, constraints and markers are package data."""
    patterns = pyproject["tool"]["setuptools"]["package-data"]
    shipped = {path for package, globs in patterns.items() for pattern in globs
               for path in root.joinpath(*package.split(".")[1:]).glob(pattern)}
    present = {path for part in PARTS for path in (root / part).rglob("*")
               if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert sorted(map(str, present - shipped)) == []


def test_no_shadowing_folder(root):
    """A folder `terngen` in the root would shadow the mapped packages under `python -m pytest`."""
    assert not (root / "terngen").exists()


def test_typed(root):
    assert all((root / part / "py.typed").exists() for part in ("hw", "sim", "host"))


def test_script_and_transports_resolve():
    points = importlib.metadata.distribution("terngen").entry_points
    assert {point.name for point in points} == {"terngen", "golden", "mmap", "serial", "sim"}
    for point in points:
        assert callable(point.load()), point


def test_dependencies_are_bounded_and_explained(root):
    """Each dependency stands under a comment, and those of the running program have both bounds."""
    lines = (root / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    for index, line in enumerate(lines[start + 1:lines.index("]", start)], start + 1):
        if not line.lstrip().startswith("#"):
            assert ">=" in line, line
            assert "<" in line, line
            assert lines[index - 1].lstrip().startswith("#"), f"{line.strip()} has no rationale"
