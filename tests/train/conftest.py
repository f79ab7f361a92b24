"""A text that is learned in seconds; without PyTorch there are no tests here."""

import importlib.util
import random

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def text() -> str:
    """Four hundred lines that are easy to foretell."""
    rng = random.Random(1)
    return "".join(f"the {rng.choice(['king', 'queen', 'frog'])} "
                   f"{rng.choice(['said no', 'went home', 'saw a wolf'])}.\n" for _ in range(400))


@pytest.fixture(scope="session")
def text_file(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text)
    return path
