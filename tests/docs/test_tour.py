"""docs/tour.ipynb, run again."""

import json
import shutil
import subprocess
import sys

import pytest


def told(notebook):
    """What each cell prints, and how many plots it draws."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            outputs = cell["outputs"]
            yield ("".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream"),
                   sum("image/png" in output.get("data", {}) for output in outputs))


@pytest.fixture(scope="module")
def again(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tour")
    shutil.copy(root / "docs/tour.ipynb", folder)
    (folder / "models").symlink_to(root / "models")
    done = subprocess.run([sys.executable, "-m", "jupyter", "execute", "--inplace", "tour.ipynb"], cwd=folder,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "tour.ipynb").read_text())


def test_tour(root, again):
    stored = list(told(json.loads((root / "docs/tour.ipynb").read_text())))
    assert list(told(again)) == stored
    assert sum(plots for _, plots in stored) == 2
    assert sum(len(text) > 20 for text, _ in stored) >= 5
