"""The processor does what the interpreter says, in as many cycles."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from terngen.hw.contract.formats import FloatFormat
from terngen.hw.program import ports
from terngen.hw.program.assembler import Assembler, number, pointer, vector
from terngen.hw.program.core import Core
from terngen.hw.program.interpreter import Interpreter
from terngen.hw.program.isa import ADDRESS_BITS, Code, Condition, Unary
from terngen.hw.vendor.spram import SinglePortMemory

FMT = FloatFormat(6, 9)
#: Words that are operands; the results follow.
OPERANDS = 24
RESULTS  = 0x300


class Processor(wiring.Component):
    """A processor with its memory. Ports give their number, a few cycles late."""

    def __init__(self, program):
        self._core = Core(fmt=FMT, program=program)
        super().__init__({"wrote": Out(1), "waits": Out(1), "port": Out(5), "value": Out(32), "wait": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.core   = core  = self._core
        m.submodules.memory = store = SinglePortMemory(width=16, words=1 << ADDRESS_BITS)
        m.d.comb += [
            store.address.eq(core.address), store.data.eq(core.data), store.write.eq(core.write),
            core.word.eq(store.word), core.given.eq(core.port - 3), core.ready.eq(~self.wait),
            self.wrote.eq(core.writes & core.ready), self.waits.eq((core.reads | core.writes) & ~core.ready),
            self.port.eq(core.port), self.value.eq(core.taken),
        ]
        return m


def at_random(seed):
    """A program that does everything with words of any kind, and shows what comes out."""
    rng, program = random.Random(seed), Assembler(0x100)
    corners = [0, 1, FMT.one, FMT.one | 1, FMT.largest, FMT.smallest, 1 << 15, 0xFFFF, FMT.smallest - 1, 0x7FFF]
    for place in range(OPERANDS):
        program.load(rng.choice(corners) if rng.random() < 0.3 else rng.getrandbits(16))
        program.st(place)
    program.load(RESULTS)
    program.out(ports.Out.POINTER)

    def shows():
        program.out(31)
        program.st(pointer(moves=True))
        program.sth(pointer(moves=True))

    codes = [code for code in Code if code.value <= Code.LIM.value and code not in (Code.ST, Code.STH)]
    unary = [each for each in Unary if each not in (Unary.JUMP, Unary.RETURN, Unary.BIN, Unary.TABLE)]
    for index in range(250):
        kind = rng.random()
        if kind < 0.1:
            program.skip(rng.choice(list(Condition)), rng.randrange(4))
        elif kind < 0.25:
            getattr(program, rng.choice(unary).name.lower())()
        elif kind < 0.3:
            program.in_(rng.randrange(8))
        elif kind < 0.35:
            program.and_(number(rng.getrandbits(9)))
            program.table()
        elif kind < 0.37:
            label = f"Past {index}"
            program.call(label)
            program.jmp(f"Behind {index}")
            program.label(label)
            program.add(number(5))
            program.return_()
            program.label(f"Behind {index}")
        else:
            code = rng.choice(codes)
            if code is Code.NORM:
                program.norm(rng.randrange(-64, 64))
            elif code in (Code.RND, Code.LIM):
                getattr(program, code.name.lower())(rng.randrange(2))
            else:
                operand = number(rng.getrandbits(9)) if rng.random() < 0.1 else rng.randrange(OPERANDS)
                getattr(program, code.name.lower() + "_")(operand)
        if rng.random() < 0.7:
            shows()
        if rng.random() < 0.2:
            program.gete()
            shows()
    # A loop over a vector, with a sum of squares' way of finding a bin.
    program.ld(number(3))
    program.out(ports.Out.END)
    program.ld(number(0))
    program.out(ports.Out.INDEX)
    program.label("Element")
    program.ld(vector(0))
    program.st(vector(2))
    shows()
    program.loop("Element")
    program.ldfw(0)
    program.shift()
    program.bin()
    program.st(pointer(moves=True))
    program.out(30)
    program.label("End")
    program.jmp("End")
    return program.assemble()


@pytest.mark.parametrize("seed", range(8))
def test_matches_interpreter(seed):
    program = at_random(seed)
    written = []
    known   = Interpreter(FMT, program, read=lambda port: port - 3, write=lambda port, a: written.append(
        (port, a & 0xFFFFFFFF)))
    while not (written and written[-1][0] == 30):
        known.step()

    dut, found, cycles = Processor(program), [], 0
    rng = random.Random(seed)

    async def watch(ctx):
        nonlocal cycles
        async for *_, wrote, waits, port, value in ctx.tick().sample(dut.wrote, dut.waits, dut.port, dut.value):
            cycles += not waits
            ctx.set(dut.wait, rng.random() < 0.2)
            if wrote and port >= 30:
                found.append((port, value))
                if port == 30:
                    return

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(watch)
    sim.run_until(0.05)
    assert found == written
    # A cycle passes before the first instruction is there.
    assert cycles == known.cycles + 1
