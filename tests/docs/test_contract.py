"""docs/contract.md says what the definitions say."""

import re

from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Descriptor
from terngen.sim import contract


def test_page(root):
    text = (root / "docs/contract.md").read_text()
    assert contract.page(text) == text


def test_descriptor(root):
    """Bits lie side by side, and are as many as the structure has."""
    table = (root / "docs/contract.md").read_text().split("<!-- descriptor -->")[1].split("<!-- end -->")[0]
    place = 0
    for bits in re.findall(r"^\| ([\d:]+) \|", table, re.MULTILINE):
        high, _, low = bits.partition(":")
        assert int(low or high) == place
        place = int(high) + 1
    assert place == Descriptor.as_shape().size


def test_everything_is_explained(root):
    """No cell of a meaning is empty."""
    assert not re.findall(r"^\|.*\|\s*\|$", (root / "docs/contract.md").read_text(), re.MULTILINE)
    assert len(re.findall(r"^\| 0x", (root / "docs/contract.md").read_text(), re.MULTILINE)) >= len(Reg)
