"""What tapes behind AXI4 ports refuse; `tests/sim/benches/test_bench_striped.py` plays them."""

import pytest

from terngen.hw.contract.config import PRESETS
from terngen.hw.tape.axi import AxiSignature, AxiTape
from terngen.hw.tape.striped import StripedTape


@pytest.mark.parametrize("options, message", [
    ({"channels": 3},   r"^Channels must be a power of two up to 8, the octets of a beat, not 3$"),
    ({"channels": 16},  r"^Channels must be a power of two up to 8, the octets of a beat, not 16$"),
    ({"channels": 2, "bases": [0]}, r"^Striped tape must have 2 bases, one for each channel, not 1$"),
])
def test_striped_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        StripedTape(PRESETS["small"], **options)


@pytest.mark.parametrize("options, message", [
    ({"burst": 24},    r"^AXI4 burst must be a power of two up to 64 beats of 64 octets, not 24$"),
    ({"burst": 128},   r"^AXI4 burst must be a power of two up to 64 beats of 64 octets, not 128$"),
    ({"bursts": 3},    r"^AXI4 bursts under way must be a power of two, not 3$"),
    ({"base": 64},     r"^AXI4 base must be a multiple of 1024 of 32 bits, not 64$"),
    ({"base": 1 << 32}, r"^AXI4 base must be a multiple of 1024 of 32 bits, not 4294967296$"),
])
def test_axi_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        AxiTape(data_width=512, **options)


@pytest.mark.parametrize("options, message", [
    ({"addr_width": 8,  "data_width": 64}, r"^AXI4 address width must be from 12 to 64, not 8$"),
    ({"addr_width": 32, "data_width": 48}, r"^AXI4 data width must be a power of two from 8 to 1024, not 48$"),
])
def test_signature_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        AxiSignature(**options)
