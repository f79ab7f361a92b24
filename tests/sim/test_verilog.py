"""Benches run on both simulators, and can fail there."""

import re
import shutil

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.sim import verilog
from terngen.sim.verilog import run_bench

SIMULATORS = [
    pytest.param("icarus", marks=pytest.mark.skipif(not shutil.which("iverilog"), reason="no Icarus here")),
    "verilator",
]


class Register(wiring.Component):
    """A stream register of one place. The input `fault` selects a broken rule.

    The output `phase` depends on nothing but the state of an FSM, whose first one it never leaves here.
    """

    i:     In(stream.Signature(20))
    o:     Out(stream.Signature(20))
    fault: In(3)
    phase: Out(2)

    def elaborate(self, platform):
        m = Module()
        age  = Signal(4)
        late = age == 15
        m.d.sync += age.eq(age + 1)
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        with m.If((self.fault == 1) & late):
            m.d.sync += self.o.valid.eq(0)
        with m.If((self.fault == 2) & late):
            m.d.sync += self.o.payload.eq(~self.o.payload)
        with m.If((self.fault == 3) & late & self.i.ready):
            m.d.sync += self.o.payload.eq(0)
        with m.If((self.fault == 4) & late):
            m.d.comb += self.i.ready.eq(0)
        with m.FSM():
            with m.State("First"):
                m.d.comb += self.phase.eq(2)
                with m.If(self.fault == 7):
                    m.next = "Second"
            with m.State("Second"):
                m.d.comb += self.phase.eq(1)
        return m


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_passes(simulator):
    run_bench(Register(), "bench_register", simulator=simulator, tests="keeps_order|resumes|settles")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_fails(simulator):
    """The message of a failed bench names simulator, seed, and each failed test with its reason."""
    with pytest.raises(AssertionError) as failure:
        run_bench(Register(), "bench_register", simulator=simulator, seed=7, tests="broken")
    message = str(failure.value)
    assert message.startswith(f"Bench bench_register failed on {simulator} with SEED=7: broken_rule/fault=1: ")
    for pattern in (r"Stream o must hold valid until the transfer, but withdrew [01]{20}; ",
                    r"Stream o must hold the payload until the transfer, but changed [01]{20} to [01]{20}; ",
                    r"broken_values: assert \[", r"broken_throughput: assert "):
        assert re.search(pattern, message)


def test_nothing_to_run():
    with pytest.raises(AssertionError, match="no test ran"):
        run_bench(Register(), "bench_register", tests="no_such_test")


def test_missing_bench():
    with pytest.raises(AssertionError, match="(?s)the simulation ended without results.*No module named"):
        run_bench(Register(), "bench_of_nothing")


def test_hanging_bench():
    """A bench that loops without passing time is ended from outside."""
    with pytest.raises(AssertionError, match="the simulation took longer than 10 s"):
        run_bench(Register(), "bench_register", env={"HANG": 1}, tests="hangs", timeout=10)


def test_text_is_reproducible(root):
    text = verilog.verilog(Register(), "register")
    assert text == verilog.verilog(Register(), "register")
    assert "module register(" in text
    assert str(root) not in text


def test_simulator_wrong(monkeypatch):
    monkeypatch.setenv("TERNGEN_COCOTB_SIM", "pencil")
    with pytest.raises(ValueError, match="^TERNGEN_COCOTB_SIM must be icarus or verilator, not 'pencil'$"):
        verilog.simulator_name()


def test_cache_is_all_or_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path))

    def fails(folder):
        (folder / "half").touch()
        raise RuntimeError("compiler failed")

    with pytest.raises(RuntimeError, match="^compiler failed$"):
        verilog._cached("name", fails)
    assert not (tmp_path / "name").exists()
    assert [path.name for path in verilog._cached("name", lambda folder: (folder / "whole").touch()).iterdir()] \
        == ["whole"]
    assert verilog._cached("name", fails) == tmp_path / "name"
