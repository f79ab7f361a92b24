"""Adders of the vendors' cells, proved equal to what they say for all operands."""

import random
import types

import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Fragment
from amaranth.sim import Simulator
from amaranth.utils import ceil_log2

from terngen.hw import build
from terngen.hw.units import table
from terngen.hw.vendor.adder import add, add_inverted, add_kept, add_modes, add_subtract, add_three, has_three

#: From registers with anything in them: what is seen once they are full.
SEQUENCE = "-seq 6 -prove-skip 5"


class Sum(Elaboratable):
    """Ports around a function of a module, a platform and operands."""

    def __init__(self, widths, width: int, make):
        self.operands = [Signal(width, name=f"operand_{index}") for index, width in enumerate(widths)]
        self.result   = Signal(width)
        self._make    = make

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.result.eq(self._make(m, platform, *self.operands))
        return m


def prove(folder, widths, width: int, expected, actual, *, family, cell: str | None):
    """That two functions give the same for all operands, the second one by means of a cell as Yosys knows it."""
    for name, make in (("gold", expected), ("gate", actual)):
        dut  = Sum(widths, width, make)
        text = rtlil.convert(dut, name, ports=[*dut.operands, dut.result],
                             platform=types.SimpleNamespace(family=family), emit_src=False)
        (folder / f"{name}.il").write_text(text)
    assert cell is None or f"cell \\{cell} " in text
    library = "xilinx" if family == "series7" else "ecp5"
    (folder / "prove.ys").write_text(
        f"read_verilog -nooverwrite +/{library}/cells_sim.v\nread_rtlil gate.il\nhierarchy -top gate\nproc\nflatten\n"
        f"design -stash gate\nread_rtlil gold.il\nproc\nflatten\ndesign -stash gold\n"
        f"design -copy-from gold -as gold gold\ndesign -copy-from gate -as gate gate\n"
        f"miter -equiv -flatten -make_outputs gold gate miter\nhierarchy -top miter\nclean\n"
        f"sat -verify {SEQUENCE if 'clk' in text else ''} -prove trigger 0 miter\n")
    build.run_tool(build.YOSYS, ["prove.ys"], folder)


each_family = pytest.mark.parametrize("family, cell", [(None, None), ("ecp5", "CCU2C")])


@each_family
@pytest.mark.parametrize("width, other", [(11, 8), (8, 8), (1, 1)])
def test_add_subtract(tmp_path, family, cell, width, other):
    def expected(m, platform, left, right, minus):
        return Mux(minus, left - right.as_signed(), left + right.as_signed())

    def actual(m, platform, left, right, minus):
        return add_subtract(m, platform, left, right.as_signed(), minus, name="dut")

    prove(tmp_path, [width, other, 1], width, expected, actual, family=family, cell=cell)


@each_family
@pytest.mark.parametrize("width, other", [(11, 9), (8, 8)])
def test_add_subtract_inverted(tmp_path, family, cell, width, other):
    """With half its range added, a sum has no sign."""
    def expected(m, platform, left, right, minus):
        total = left.as_signed() + Mux(minus, -right.as_signed(), right.as_signed())
        return total + (1 << width - 1)

    def actual(m, platform, left, right, minus):
        return add_subtract(m, platform, left, right.as_signed(), minus, invert=True, name="dut")

    prove(tmp_path, [width, other, 1], width, expected, actual, family=family, cell=cell)


@each_family
@pytest.mark.parametrize("width", [8, 5])
def test_add_modes(tmp_path, family, cell, width):
    def expected(m, platform, left, right, mode):
        left, right = left.as_signed(), right.as_signed()
        return Mux(mode[1], Mux(mode[0], left, right), Mux(mode[0], left - right, left + right))

    def actual(m, platform, left, right, mode):
        return add_modes(m, platform, left, right, mode, name="dut")

    prove(tmp_path, [width, width, 2], width + 1, expected, actual, family=family, cell=cell)


@each_family
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("width", [11, 6])
def test_add_inverted(tmp_path, family, cell, width, invert):
    def expected(m, platform, left, right, flags, carry):
        return ((left ^ flags[0].replicate(width)) + (right ^ flags[1].replicate(width)) + carry) ^ (invert << width)

    def actual(m, platform, left, right, flags, carry):
        return add_inverted(m, platform, left, right, (flags[0], flags[1]), carry, invert=invert, name="dut")

    prove(tmp_path, [width, width, 2, 1], width + 1, expected, actual, family=family, cell=cell)


@each_family
@pytest.mark.parametrize("width, other, carries", [(20, 14, False), (20, 14, True), (5, 5, False), (5, 5, True)])
def test_add_kept(tmp_path, family, cell, width, other, carries):
    def expected(m, platform, left, right, keep, carry):
        return left.as_signed() + Mux(keep, right, 0) + (carry if carries else 0)

    def actual(m, platform, left, right, keep, carry):
        return add_kept(m, platform, left.as_signed(), right, keep, carry=carry if carries else None, name="dut")

    prove(tmp_path, [other, width, 1, 1], width, expected, actual, family=family, cell=cell)


@each_family
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("width, count", [(11, 1), (11, 2), (6, 3), (6, 4)])
def test_add(tmp_path, family, cell, width, count, invert):
    def pairs(operands):
        return list(zip(operands[::2], operands[1::2]))

    def expected(m, platform, *operands):
        return Cat((left + right) ^ (invert << width) for left, right in pairs(operands))

    def actual(m, platform, *operands):
        return Cat(add(m, platform, pairs(operands), invert=invert, name="dut"))

    prove(tmp_path, [width] * 2 * count, (width + 1) * count, expected, actual, family=family, cell=cell)


@pytest.mark.parametrize("widths, width", [((11, 11, 11), 13), ((13, 13, 12), 14), ((4, 4, 4), 4)])
def test_add_three(tmp_path, widths, width):
    def actual(m, platform, *operands):
        assert has_three(platform)
        return add_three(m, platform, operands, width, name="dut")

    prove(tmp_path, widths, width, lambda m, platform, a, b, c: a + b + c, actual, family="series7", cell="LUT6_2")


def test_proves(tmp_path):
    """What is wrong for a single pair of operands is found."""
    def actual(m, platform, left, right, minus):
        wrong = (left == 11) & (right == 3)
        return add_subtract(m, platform, left, right.as_signed(), minus, name="dut") ^ wrong

    with pytest.raises(build.BuildError, match="proof did fail"):
        prove(tmp_path, [8, 8, 1], 8, lambda m, platform, left, right, minus: Mux(minus, left - right.as_signed(),
                                                                        left + right.as_signed()),
              actual, family="ecp5", cell="CCU2C")


def test_operands_wrong():
    m = Module()
    with pytest.raises(ValueError, match=r"^Right operand must have at most 4 bits like the left one, not 5$"):
        add_subtract(m, None, Signal(4), Signal(5), Signal(), name="dut")
    Fragment.get(m, None)


@pytest.mark.parametrize("slots, row_lanes, beat_bits", [(1, 1, 64), (3, 2, 64), (2, 1, 32)])
def test_tables_sum(tmp_path, slots, row_lanes, beat_bits):
    """The adders behind the tables, with their registers, are those of the simulator."""
    count = beat_bits // 8 // row_lanes
    level = ceil_log2(count)

    def make(m, platform, *operands):
        rows = [list(operands[start:start + count]) for start in range(0, len(operands), count)]
        return Cat(table._sums(m, platform, rows))

    prove(tmp_path, [table.ENTRY_BITS] * count * slots * row_lanes, (table.ENTRY_BITS + level) * slots * row_lanes,
          lambda m, platform, *operands: make(m, None, *operands), make, family="ecp5", cell="CCU2C")


@pytest.mark.parametrize("count", [4, 8, 16])
def test_tables_sum_in_threes(count):
    """What Xilinx has instead of them gives the same, a cycle earlier. To prove it takes too long."""
    rng      = random.Random(count)
    operands = [Signal(table.ENTRY_BITS) for _ in range(count)]
    m        = Module()
    result, = table._threes(m, None, [operands])
    latency = ceil_log2(count) - 1
    # All least, all greatest, and anything.
    rows  = [[low] * count for low in (table.BIAS - 635, table.BIAS, table.BIAS + 635)]
    rows += [[rng.randrange(table.BIAS - 635, table.BIAS + 636) for _ in range(count)] for _ in range(50)]

    async def testbench(ctx):
        seen = []
        for row in rows + [rows[0]] * latency:
            for operand, value in zip(operands, row):
                ctx.set(operand, value)
            seen.append(ctx.get(result.as_signed()))
            await ctx.tick()
        assert seen[latency:] == [sum(row) - count * table.BIAS for row in rows]

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
