"""Stored figures."""

import json

import pytest


@pytest.fixture(scope="module")
def stored(root):
    """All of them."""
    return json.loads((root / "docs/lmul.json").read_text())


@pytest.fixture(scope="module")
def alike():
    """Whether rows have equal words and nearly equal numbers."""
    def alike(row, expected, **tolerance):
        numbers = [{key: value for key, value in each.items() if isinstance(value, float)} for each in (row, expected)]
        words   = [{key: value for key, value in each.items() if key not in numbers[0]} for each in (row, expected)]
        return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], **tolerance)
    return alike
