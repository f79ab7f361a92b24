"""The start of a DDR3 chip behind LiteDRAM's controller: what is written, and the delays that it finds."""

import importlib.util
import re

import pytest

from terngen.hw.vendor import litedram
from terngen.hw.vendor.litedram import LitedramCore, LitedramStart
from terngen.sim import stream

NAMES = ["ddrctrl_init_done", "ddrctrl_init_error", "ddrphy_dly_sel", "ddrphy_rdly_dq_rst", "ddrphy_rdly_dq_inc",
         "ddrphy_rdly_dq_bitslip_rst", "ddrphy_rdly_dq_bitslip", "sdram_dfii_control",
         *(f"sdram_dfii_pi{phase}_{name}" for phase in range(2)
           for name in ("command", "command_issue", "address", "baddress", "wrdata", "rddata"))]
#: Registers with room for two words each.
CORE  = LitedramCore(verilog="", registers={name: 8 * index for index, name in enumerate(NAMES)},
                     start=[("sdram_dfii_control", 12), (None, 100), ("sdram_dfii_pi0_address", 0x320)], lanes=2,
                     phases={"read": 0, "write": 1}, delays=8, slips=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A chip that needs no time, so that the simulation takes little."""
    monkeypatch.setattr(litedram, "_SETTLED", 3)


class Chip:
    """Registers of a controller, and a chip whose lanes give what was written with some settings only."""

    def __init__(self, works):
        self.works  = works                             # for each lane, pairs of shift and delay
        self.shifts = [0] * CORE.lanes
        self.delays = [0] * CORE.lanes
        self.chosen = 0
        self.latest = {}
        self.words  = {}
        self.row    = False
        self.told   = []                                # writes, in order

    def write(self, address, value):
        name, place = NAMES[address // 2], address % 2
        self.told.append((name, value))
        self.latest[name, place] = value
        for lane in range(CORE.lanes):
            if self.chosen >> lane & 1:
                self.delays[lane] *= name != "ddrphy_rdly_dq_rst"
                self.delays[lane] += name == "ddrphy_rdly_dq_inc"
                self.shifts[lane] *= name != "ddrphy_rdly_dq_bitslip_rst"
                self.shifts[lane] += name == "ddrphy_rdly_dq_bitslip"
        if name == "ddrphy_dly_sel":
            self.chosen = value
        issued = re.fullmatch(r"sdram_dfii_pi(\d)_command_issue", name)
        if issued:
            self.command(int(issued[1]), self.latest[f"sdram_dfii_pi{issued[1]}_command", 0])

    def command(self, phase, command):
        match command:
            case 0b1001:                                # activation
                self.row = True
            case 0b1011:                                # precharge
                self.row = False
            case 0b010111:                              # write
                assert self.row and phase == CORE.phases["write"]
                self.words = {(index, place): self.latest[f"sdram_dfii_pi{index}_wrdata", place]
                              for index in range(2) for place in range(2)}
            case 0b100101:                              # read
                assert self.row and phase == CORE.phases["read"]
            case _:
                raise AssertionError(f"Command {command:#b} must be one that is known")

    def read(self, address):
        name, place = NAMES[address // 2], address % 2
        word = self.words[int(re.fullmatch(r"sdram_dfii_pi(\d)_rddata", name)[1]), place]
        for lane, works in enumerate(self.works):
            if (self.shifts[lane], self.delays[lane]) not in works:
                word ^= 0x0010_0010 << 8 * lane
        return word


def started(chip):
    """Whether it says that it is done, and whether it has failed."""
    dut = LitedramStart(CORE)

    async def registers(ctx):
        while not (ctx.get(dut.done) or ctx.get(dut.error)):
            if ctx.get(dut.bus.cyc & dut.bus.stb):
                address = ctx.get(dut.bus.adr)
                if ctx.get(dut.bus.we):
                    chip.write(address, ctx.get(dut.bus.dat_w))
                else:
                    ctx.set(dut.bus.dat_r, chip.read(address))
                ctx.set(dut.bus.ack, 1)
                await ctx.tick()
                ctx.set(dut.bus.ack, 0)
            await ctx.tick()
        found.extend((ctx.get(dut.done), ctx.get(dut.error)))

    found = []
    stream.run(dut, registers, cycles=100_000)
    return found


def test_finds_the_middle():
    """Of the longest run, for each lane by itself."""
    chip = Chip([{(1, 2), (2, 3), (2, 4), (2, 5)}, {(0, 0), *((3, delay) for delay in range(1, 8))}])
    assert started(chip) == [1, 0]
    assert (chip.shifts, chip.delays) == ([2, 3], [4, 4])
    assert chip.told[:2] == [("sdram_dfii_control", 12), ("sdram_dfii_pi0_address", 0x320)]
    assert chip.told[-2:] == [("sdram_dfii_control", 15), ("ddrctrl_init_done", 1)]
    assert not chip.row


def test_fails():
    """A lane that never works."""
    chip = Chip([{(0, 3)}, set()])
    assert started(chip) == [0, 1]
    assert chip.told[-2:] == [("ddrctrl_init_error", 1), ("ddrctrl_init_done", 1)]


@pytest.mark.skipif(importlib.util.find_spec("litedram") is None, reason="LiteDRAM is not installed")
def test_generate():
    """Twice the same, with all that the start needs."""
    made = [litedram.generate(device="LFE5UM5G-85F-8BG554I", module="MT41K256M16", lanes=2, input_hz=100_000_000,
                              clock_hz=75_000_000) for _ in range(2)]
    assert made[0] == made[1]
    core = made[0]
    assert (core.lanes, core.delays, core.slips) == (2, 8, 4)
    assert set(NAMES) <= set(core.registers)
    assert core.start[0] == ("sdram_dfii_pi0_address", 0)
    assert (None, 50000) in core.start
    assert ("sdram_dfii_pi0_address", 0x320) in core.start
    assert re.search(r"inout +wire +\[15:0\] ddram_dq,", core.verilog)
    LitedramStart(core)._programs()
