"""Proofs by Yosys, which pip installs: no counterexample exists, for any operands and any contents of registers."""

import pytest
from amaranth import Module, Signal
from amaranth.back import rtlil
from amaranth.hdl import Assert, Elaboratable

from terngen.hw import build
from terngen.hw.stream import delay


class Claim(Elaboratable):
    """A pipeline beside what it should compute, which waits as long as the pipeline takes."""

    def __init__(self, unit, specification):
        self._unit, self._specification = unit, specification
        self.operands = {name: Signal(port.shape, name=name) for name, port in unit.signature.members.items()
                         if name not in ("en", "o")}

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self._unit
        m.d.comb += [getattr(unit, name).eq(operand) for name, operand in self.operands.items()]
        expected = Signal.like(unit.o)
        m.d.comb += expected.eq(self._specification(m, **self.operands))
        m.d.comb += Assert(unit.o == delay(m, expected, unit.LATENCY))
        return m


@pytest.fixture
def prove(tmp_path):
    """Proves that a pipeline without a pause gives what a function of its operands says.

    The function gets a module, and the operands by name; it gives a value. A pipeline that remembers has operands that
    make it forget; it gets them once before.
    """
    def prove(unit, specification, before=0):
        claim  = Claim(unit, specification)
        text   = rtlil.convert(claim, "top", ports=[*claim.operands.values()], emit_src=False)
        cycles = before + unit.LATENCY + 1
        (tmp_path / "top.il").write_text(text)
        # Registers hold anything at first; once they are full, what is seen belongs to operands that were free. Nobody
        # resets them meanwhile.
        (tmp_path / "prove.ys").write_text(
            f"read_rtlil top.il\nprep -flatten -top top\nmemory_map\nsetattr -unset init w:*\nasync2sync\n"
            f"chformal -lower\nsat -verify -prove-asserts -set-assumes -seq {cycles} -prove-skip {cycles - 1} "
            f"-set rst 0 top\n")
        build.run_tool(build.YOSYS, ["prove.ys"], tmp_path)

    return prove
