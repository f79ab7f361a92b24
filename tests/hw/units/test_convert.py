"""Conversions. What they compute is held against the contract in their benches."""

import pytest

from terngen.hw.contract.formats import PATH
from terngen.hw.units.convert import FromInt


@pytest.mark.parametrize("width", [1, 65])
def test_width_wrong(width):
    with pytest.raises(ValueError, match=rf"^Width of the integers must be 2 to 64 bits, not {width}$"):
        FromInt(fmt=PATH, width=width)
