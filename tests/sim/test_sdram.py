"""The model of an SDRAM chip finds each violation of the data sheet, and a machine plays its tape from one."""

import dataclasses

import pytest
from amaranth.hdl import Const

from terngen.host.device import Counters, Device
from terngen.hw.tape.chips import CHIPS
from terngen.hw.tape.sdram import Command
from terngen.hw.top import SdramMachine
from terngen.sim import stream
from terngen.sim.bench import greedy
from terngen.sim.compiled import CompiledModel, compile_machine
from terngen.sim.device import SimTransport
from terngen.sim.gate import CheckedTransport
from terngen.sim.memory import MemoryModel
from terngen.sim.sdram import MachineOnChip, SdramModel, Violation

CLOCK_HZ = 133_333_333          # 7.5 ns
#: Small, and with refreshes so often that little time shows that they are late.
CHIP     = dataclasses.replace(CHIPS["AS4C32M16SB-7"], rows=4, cols=64, refreshes=65536, power_up=300, ras_max=5000)
#: Cycles of each time of the data sheet at that clock, counted by hand.
POWER_UP, RCD, RP, RAS, RC, RRD, WR, RFC, MRD = 40, 3, 3, 6, 9, 2, 2, 9, 2
RAS_MAX  = 666
INTERVAL = 130                  # 64 ms / 65536, rounded down
MODE     = 0x233                # single writes, CAS latency 3, bursts of eight
ALL      = 1 << 10

NOP, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, SET_MODE, TERMINATE = (
    Command.NOP, Command.ACTIVATE, Command.READ, Command.WRITE, Command.PRECHARGE, Command.REFRESH, Command.MODE,
    Command.TERMINATE)


def start(*, power_up=POWER_UP, rp=RP, rfc=RFC, refreshes=8, mode=MODE, mrd=MRD, close=ALL):
    """Commands that start the chip, and the cycles from each to the next."""
    return [(NOP, {}, power_up), (PRECHARGE, {"a": close}, rp), *[(REFRESH, {}, rfc)] * refreshes,
            (SET_MODE, {"a": mode}, mrd)]


def play(commands, *, words=(), chip=CHIP, clock_hz=CLOCK_HZ):
    """Give the chip these commands; its first violation, and the data of each cycle from the start."""
    model = SdramModel(chip, clock_hz=clock_hz, init=words)
    data  = []

    async def testbench(ctx):
        ctx.set(model.pins.cke, 1)
        for command, pins, cycles in commands:
            for cycle in range(cycles):
                now = {"a": 0, "ba": 0, "dq_o": 0, "dq_oe": 0, "dqm": 0, "cke": 1} | (pins if cycle == 0 else {})
                ctx.set(model.pins.command, command if cycle == 0 else NOP)
                for name, value in now.items():
                    ctx.set(getattr(model.pins, name), Const(value, len(getattr(model.pins, name))))
                _, _, value = await ctx.tick().sample(model.pins.dq_i)
                data.append(value)
        violations.append(ctx.get(model.violation))

    violations = []
    stream.run(model, testbench, cycles=50_000)
    return violations[0], data


def opened(*commands, **options):
    """The chip after its start, with these commands."""
    return play([*start(), *commands], **options)


def write(ba=0, a=0, value=0, cycles=WR, **pins):
    return (WRITE, {"ba": ba, "a": a, "dq_o": value, "dq_oe": 1, **pins}, cycles)


#: All that is allowed, as close together as it may be.
ALLOWED = [
    (ACTIVATE, {"ba": 0, "a": 1}, RRD), (ACTIVATE, {"ba": 1, "a": 2}, 1), (READ, {"ba": 0, "a": 5}, 8),
    (READ, {"ba": 1, "a": 0}, 1), (PRECHARGE, {"ba": 0}, RP), (ACTIVATE, {"ba": 0, "a": 3}, 14),
    write(1, 7, 0xABCD), (PRECHARGE, {"a": ALL}, RP), (REFRESH, {}, RFC), (ACTIVATE, {"ba": 1, "a": 2}, RCD),
    (READ, {"ba": 1, "a": 7}, 8), (PRECHARGE, {"ba": 1}, RC), (ACTIVATE, {"ba": 1}, RAS), (PRECHARGE, {"a": ALL}, RP),
    (ACTIVATE, {"ba": 1}, 1),
]


def test_allowed():
    words = [1000 + place for place in range(CHIP.words)]
    violation, data = opened(*ALLOWED, words=words)
    assert violation == Violation.NONE

    def place(row, bank, col):
        return 1000 + (row * CHIP.banks + bank) * CHIP.cols + col

    given   = [value for value in data if value != 0xFFFF]
    first   = [place(1, 0, (5 + word) % 8) for word in range(8)]           # wraps within its eight
    second  = [place(2, 1, word) for word in range(8)]
    third   = [0xABCD] + [place(2, 1, word) for word in range(7)]
    assert given == first + second + third
    # The first word is there when the CAS latency has passed.
    ahead = sum(cycles for _, _, cycles in start()) + RCD
    assert data[ahead + 3] == first[0]
    assert data[ahead + 2] == 0xFFFF


@pytest.mark.parametrize("expected, commands", [
    (Violation.START,   start(power_up=POWER_UP - 1)),
    (Violation.START,   [*start(refreshes=7), (ACTIVATE, {}, 2)]),
    (Violation.START,   [*start(close=0), (ACTIVATE, {}, 2)]),
    (Violation.START,   [*start()[:-1], (ACTIVATE, {}, 2)]),
    (Violation.START,   [*start(), (NOP, {"cke": 0}, 2)]),
    (Violation.RP,      start(rp=RP - 1)),
    (Violation.RFC,     start(rfc=RFC - 1)),
    (Violation.MRD,     [*start(mrd=MRD - 1), (ACTIVATE, {}, 2)]),
    (Violation.MODE,    start(mode=MODE & ~0x200)),         # bursts of writes
    (Violation.MODE,    start(mode=0x223)),                 # CAS latency 2 is for 100 MHz
    (Violation.MODE,    start(mode=0x213)),
    (Violation.MODE,    start(mode=0x23B)),                 # interleaved
    (Violation.MODE,    start(mode=0x237)),                 # full page
    (Violation.CLOSED,  [*start(), (READ, {}, 2)]),
    (Violation.CLOSED,  [*start(), (ACTIVATE, {"ba": 1}, RCD), write(2)]),
    (Violation.OPEN,    [*start(), (ACTIVATE, {}, RC), (ACTIVATE, {}, 2)]),
    (Violation.OPEN,    [*start(), (ACTIVATE, {}, RC), (REFRESH, {}, 2)]),
    (Violation.OPEN,    [*start(), (ACTIVATE, {}, RC), (SET_MODE, {"a": MODE}, 2)]),
    (Violation.RCD,     [*start(), (ACTIVATE, {}, RCD - 1), (READ, {}, 2)]),
    (Violation.RCD,     [*start(), (ACTIVATE, {}, RCD - 1), write()]),
    (Violation.RAS,     [*start(), (ACTIVATE, {}, RAS - 1), (PRECHARGE, {}, 2)]),
    (Violation.RAS,     [*start(), (ACTIVATE, {"ba": 3}, RAS - 1), (PRECHARGE, {"a": ALL}, 2)]),
    (Violation.RAS_MAX, [*start(), (ACTIVATE, {"ba": 2}, RAS_MAX + 1), (PRECHARGE, {"ba": 2}, RP)]),
    (Violation.RP,      [*start(), (ACTIVATE, {}, RC), (PRECHARGE, {}, RP - 1), (ACTIVATE, {}, 2)]),
    (Violation.RP,      [*start(), (ACTIVATE, {}, RC), (PRECHARGE, {}, RP - 1), (REFRESH, {}, 2)]),
    (Violation.RC,      [*start(), (ACTIVATE, {}, RAS), (PRECHARGE, {}, RP), (ACTIVATE, {}, 2)]),
    (Violation.RRD,     [*start(), (ACTIVATE, {}, RRD - 1), (ACTIVATE, {"ba": 1}, 2)]),
    (Violation.WR,      [*start(), (ACTIVATE, {}, RAS), write(cycles=WR - 1), (PRECHARGE, {}, 2)]),
    (Violation.RFC,     [*start(), (REFRESH, {}, RFC - 1), (ACTIVATE, {}, 2)]),
    (Violation.REFRESH, [*start(), (NOP, {}, 10 * INTERVAL + 3)]),
    (Violation.CONTENTION, [*start(), (ACTIVATE, {}, RCD), (READ, {}, 7), write()]),
    (Violation.CONTENTION, [*start(), (ACTIVATE, {}, RCD), (READ, {}, 11), write()]),
    (Violation.CONTENTION, [*start(), (ACTIVATE, {}, RCD), (READ, {}, 2), (NOP, {"dq_oe": 1}, 3)]),
    (Violation.CONTENTION, [*start(), (ACTIVATE, {}, RCD), write(dq_oe=0)]),
    (Violation.MASK,    [*start(), (ACTIVATE, {}, RCD), write(dqm=1)]),
    (Violation.MASK,    [*start(), (ACTIVATE, {}, RCD), (READ, {"dqm": 2}, 2)]),
    (Violation.COMMAND, [*start(), (ACTIVATE, {}, RCD), (READ, {"a": ALL}, 2)]),
    (Violation.COMMAND, [*start(), (ACTIVATE, {}, RCD), (READ, {}, 2), (TERMINATE, {}, 2)]),
    (Violation.ADDRESS, [*start(), (ACTIVATE, {"a": 4}, 2)]),
    (Violation.ADDRESS, [*start(), (ACTIVATE, {}, RCD), (READ, {"a": 64}, 2)]),
])
def test_finds(expected, commands):
    chip = CHIP
    if expected is Violation.RC:                                # not implied by the others only if it is longer
        chip = dataclasses.replace(CHIP, rc=70)
    violation, _ = play(commands, chip=chip)
    assert Violation(violation) == expected


@pytest.mark.parametrize("commands", [
    [(REFRESH, {}, INTERVAL)] * 2 + [(NOP, {}, 8 * INTERVAL)],
    [(NOP, {}, 9 * INTERVAL), *[(REFRESH, {}, RFC)] * 9, (NOP, {}, 9 * INTERVAL - 9 * RFC - 10)],
    [(ACTIVATE, {}, RCD), (READ, {}, 12), write()],
    [(ACTIVATE, {}, RAS_MAX), (PRECHARGE, {}, RP)],
])
def test_lets_pass(commands):
    """What is just allowed."""
    violation, _ = opened(*commands)
    assert Violation(violation) == Violation.NONE


def test_noise_after_a_violation():
    words = [7] * CHIP.words
    _, data = opened((ACTIVATE, {}, RCD - 1), (READ, {}, 12), words=words)
    assert 7 not in data
    assert 0xFFFF ^ 7 in data


@pytest.mark.parametrize("clock_hz, cas", [(100_000_000, 2), (133_333_333, 3)])
def test_cas_latency(clock_hz, cas):
    """Data come when the mode says, not when the reader of them would like it."""
    rcd = -(-21 * clock_hz // 10**9)
    commands = [*start(mode=0x203 | cas << 4), (ACTIVATE, {}, rcd), (READ, {}, 12)]
    violation, data = play(commands, words=[7] * CHIP.words, clock_hz=clock_hz)
    assert Violation(violation) == Violation.NONE
    assert [place for place, value in enumerate(data[-12:]) if value == 7] == [*range(cas, cas + 8)]


class SdramTransport(SimTransport):
    """The simulated device, of a machine with an SDRAM."""

    def __init__(self, config, *, chip, clock_hz, seed=0):
        machine = MachineOnChip(config, chip=chip, clock_hz=clock_hz)
        assert isinstance(machine.machine, SdramMachine)
        self.config  = config
        self.memory  = MemoryModel()
        self.model   = CompiledModel(compile_machine(machine, config=config), stall_in=0.1, stall_out=0.1, seed=seed)
        self._direct = False
        self._beats  = 0
        self._connect()


def test_machine(make_tape):
    """Loaded through the link, and read back: every value inside equals the golden machine's."""
    tape    = make_tape("tests/data/reference/tiny")
    chip    = dataclasses.replace(CHIPS["IS42S16160G-7"], rows=32, power_up=2000)
    assert len(tape.image) <= chip.words * chip.width // 8
    checked = CheckedTransport(SdramTransport(tape.config, chip=chip, clock_hz=120_000_000))
    device  = Device(checked, tape)
    device.load()
    device.verify()
    total   = Counters.total(greedy(device, 8, seed=1))
    device.close()
    assert checked.mismatches == 0
    assert checked.values_compared > 10_000
    # The memory is the slower one of the two, so it hardly ever waits, but while a step ends and the next one begins.
    assert total.beats * tape.config.beat_bits / chip.width / total.cycles >= 0.9
