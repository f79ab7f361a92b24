"""Bench of the registers: random accesses, and steps of a machine that is played here."""

import json
import os
import random
from collections import deque

import cocotb
from amaranth.hdl import signed
from amaranth.lib import data
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge

from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Access, Reg, Status
from terngen.hw.control.decode import READ_LATENCY as HISTORY_LATENCY
from terngen.hw.control.registers import Registers
from terngen.hw.units.sampler import PLACE_LATENCY
from terngen.hw.units.sums import READ_LATENCY
from terngen.hw.units.vector import LOOK_LATENCY
from terngen.sim.cocotb_stream import Sink, Source, encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
WORD   = (1 << 32) - 1
SUMS   = data.ArrayLayout(signed(CONFIG.acc_width), CONFIG.lanes)
GROUP  = data.ArrayLayout(CONFIG.path.width, CONFIG.lanes)
#: Registers that keep what is written, and their width.
SET = {Reg.MASK: CONFIG.slots, Reg.RESET: CONFIG.slots,
       **dict.fromkeys([Reg.EMBED_START, Reg.EMBED_BEATS, Reg.PLAY_START, Reg.PLAY_COUNT, Reg.HIDDEN, Reg.VOCAB,
                        Reg.STEPS, Reg.STOP], 32),
       **({Reg.DRAW: CONFIG.slots} if CONFIG.draws else {})}
COUNTERS = {"stall_tape": Reg.STALL_TAPE, "stall_array": Reg.STALL_ARRAY, "stall_vector": Reg.STALL_VECTOR,
            "beat": Reg.BEATS}

rng = random.Random(int(os.environ["SEED"]))


class Machine:
    """What the registers stand for: a step of random length after `go`, events, results, sums."""

    def __init__(self, dut):
        self.dut    = dut
        self.steps  = 0
        self.fails  = False         # the next step ends in a fault
        self.left   = 0             # cycles of the step
        self.counts = dict.fromkeys([Reg.CYCLES, *COUNTERS.values()], 0)
        self.sums   = [[rng.getrandbits(CONFIG.acc_width) - (1 << CONFIG.acc_width - 1) for _ in range(CONFIG.rows)]
                       for _ in range(CONFIG.slots)]
        self.x      = [[rng.getrandbits(CONFIG.path.width) for _ in range(CONFIG.hidden)] for _ in range(CONFIG.slots)]
        self.scales = [rng.getrandbits(CONFIG.path.width) for _ in range(CONFIG.slots)]
        self.top    = [[(rng.getrandbits(32), rng.getrandbits(CONFIG.acc_width) - (1 << CONFIG.acc_width - 1))
                        for _ in range(CONFIG.top_k)] for _ in range(CONFIG.slots)]
        self.history = {}           # by place, what was chosen
        self.choices = []           # slot, which word, and the word, as it was written
        for name in ("busy", "fault", "checking", "crc", "done", "history_token", "top_row", "top_sum", "top_scale",
                     "sums", *(["seen"] if CONFIG.readable else []), *COUNTERS):
            getattr(dut, name).value = 0
        cocotb.start_soon(self._run())

    async def _run(self):
        dut, asked = self.dut, deque([(0, 0)] * (READ_LATENCY - 1))
        looks  = deque([0] * (LOOK_LATENCY - 1))
        places = deque([0] * (HISTORY_LATENCY - 1))
        tops   = deque([(0, 0)] * (PLACE_LATENCY - 1))
        while True:
            await ReadOnly()
            go = int(dut.go.value)
            asked.append((int(dut.sums_slot.value), int(dut.sums_group.value)))
            looks.append(int(dut.look.value) if CONFIG.readable else 0)
            tops.append((int(dut.top_slot.value), int(dut.top_place.value)))
            places.append(int(dut.history_place.value))
            shown  = int(dut.top_slot.value)
            choose, choice = int(dut.choose.value), int(dut.choice.value)
            await RisingEdge(dut.clk)
            if int(dut.rst.value):
                self.left = 0
            elif go:
                assert not self.left, "A step must not begin while one is under way"
                self.steps += 1
                self.left   = rng.randint(1, 60)
                self.counts = dict.fromkeys(self.counts, 0)
            elif self.left and not (self.fails and self.left == 1):
                self.left -= 1
            fault = self.fails and self.left == 1
            dut.busy.value, dut.fault.value = self.left > 0, fault
            self.counts[Reg.CYCLES] += self.left > 0 and not fault
            for name, reg in COUNTERS.items():
                event = rng.randrange(2)
                getattr(dut, name).value = event
                self.counts[reg] += event and self.left > 0 and not fault
            slot, group = asked.popleft()
            dut.sums.value = encode(self.group(slot, group), SUMS)
            seen = self.vector(looks.popleft())
            if CONFIG.readable:
                dut.seen.value = encode(seen, GROUP)
            dut.history_token.value = self.history.get(places.popleft(), 0)
            row, total = self.candidate(*tops.popleft())
            dut.top_row.value, dut.top_sum.value = row, total
            dut.top_scale.value = self.scales[shown % CONFIG.slots]
            if choose:
                second, slot, word = choice & 1, choice >> 1, choice >> 1 + CONFIG.slot_bits
                self.choices.append((slot % (1 << CONFIG.slot_bits), second, word))

    def group(self, slot: int, group: int) -> list[int]:
        row = group * CONFIG.lanes
        return (self.sums[slot % CONFIG.slots] + [0] * CONFIG.lanes)[row:row + CONFIG.lanes] or [0] * CONFIG.lanes

    def vector(self, group: int) -> list[int]:
        place = group * CONFIG.lanes
        return sum(self.x, [])[place:place + CONFIG.lanes] or [0] * CONFIG.lanes

    def candidate(self, slot: int, place: int) -> tuple[int, int]:
        return self.top[slot % CONFIG.slots][place] if place < CONFIG.top_k else (0, 0)


class Harness:
    def __init__(self, dut, *, i_stall=0.0, o_stall=0.0):
        self.dut      = dut
        self.accesses = Source(dut, "bus__accesses", shape=Access, stall=lambda: rng.random() < i_stall)
        self.answers  = Sink(dut, "bus__answers", shape=32, stall=lambda: rng.random() < o_stall)
        self.tape     = Sink(dut, "tape", shape=Access, stall=lambda: rng.random() < o_stall)
        self.machine  = Machine(dut)

    def send(self, address: int | Reg, word: int | None = None):
        """Send a write, or a read where there is nothing to write."""
        address = address.value if isinstance(address, Reg) else address
        # The rest of a read has no meaning.
        self.accesses.send([{"write": word is not None, "address": address,
                             "data": rng.getrandbits(32) if word is None else word}])

    async def read(self, address: int | Reg) -> int:
        self.send(address)
        [word] = await self.answers.get(1)
        return word

    async def settle(self):
        """Let all writes take effect."""
        await self.accesses.put([])
        await ClockCycles(self.dut.clk, Registers.WRITE_CYCLES)


def status(**fields) -> int:
    return encode(fields, Status)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(i_stall=[0, 0.5], o_stall=[0, 0.5])
async def keeps_what_is_written(dut, i_stall, o_stall):
    harness = Harness(dut, i_stall=i_stall, o_stall=o_stall)
    await reset(dut)
    kept   = {**{reg.value: width for reg, width in SET.items()},
              **{regs.token_address(slot): 32 for slot in range(CONFIG.slots)},
              **{regs.state_address(slot): CONFIG.slot_bits for slot in range(CONFIG.slots)}}
    others = [Reg.MAGIC.value, Reg.VERSION.value, Reg.STATUS.value, Reg.WAIT.value, *range(0x10, 0x20, 4),
              *range(0x28, 0x40, 4), 0x08, 0x0C, Reg.CRC.value, 0x78, regs.token_address(CONFIG.slots),
              regs.state_address(CONFIG.slots), *({Reg.DRAW.value} - {reg.value for reg in SET}),
              *range(regs.choice_address(0), regs.choice_address(CONFIG.slots), 4)]
    model  = dict.fromkeys([*kept, *others, Reg.GO.value], 0)
    model |= {Reg.MAGIC.value: regs.MAGIC, Reg.VERSION.value: regs.VERSION, Reg.STOP.value: regs.NO_TOKEN}
    model |= {regs.state_address(slot): slot for slot in range(CONFIG.slots)}
    model |= {0x10 + place: int.from_bytes(CONFIG.digest[place:place + 4], "little") for place in range(0, 16, 4)}
    expected, tape, choices = [], [], []
    for address in [*model] + rng.choices([*model], k=60):
        if rng.randrange(2) and address != Reg.GO.value:
            word = rng.getrandbits(32)
            harness.send(address, word)
            if address in kept:
                model[address] = word & (1 << kept[address]) - 1
            place = address - regs.CHOICE_BASE
            if 0 <= place < 8 * CONFIG.slots:
                choices.append((place >> 3, place >> 2 & 1, word))
        if rng.randrange(2):
            place, word = regs.TAPE_BASE + 4 * rng.getrandbits(29), rng.getrandbits(32)
            harness.send(place, word)
            tape.append((place, word))
        if rng.randrange(2):
            harness.send(address)
            expected.append((address, model[address]))
    writes = cocotb.start_soon(harness.tape.get(len(tape)))
    for (address, word), answer in zip(expected, await harness.answers.get(len(expected))):
        assert answer == word, f"Word at {address:#x} must be {word:#x}, not {answer:#x}"
    assert [(access.address, access.data) for access in await writes] == tape
    await harness.settle()
    await ReadOnly()
    for reg in SET:
        assert int(getattr(dut, reg.name.lower()).value) == model[reg.value]
    assert int(dut.tokens.value) == sum(model[regs.token_address(slot)] << 32 * slot for slot in range(CONFIG.slots))
    assert int(dut.states.value) == sum(model[regs.state_address(slot)] << CONFIG.slot_bits * slot
                                        for slot in range(CONFIG.slots))
    assert not harness.machine.steps
    assert harness.machine.choices == choices


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.6])
async def waits_for_a_step(dut, stall):
    harness = Harness(dut, i_stall=stall, o_stall=stall)
    machine = harness.machine
    await reset(dut)
    for step in range(10):
        harness.send(Reg.MASK, WORD)
        harness.send(Reg.RESET, WORD)
        assert await harness.read(Reg.RESET) == (1 << CONFIG.slots) - 1
        # The second one comes when the step is under way, unless stalls make it late.
        for _ in range(1 if stall else 2):
            harness.send(Reg.GO, rng.getrandbits(32))
        if rng.randrange(2):
            assert await harness.read(Reg.STATUS) in (status(busy=1), status())
        assert await harness.read(Reg.WAIT) == status()
        assert not machine.left
        assert stall or machine.steps == step + 1
        for reg, count in machine.counts.items():
            assert await harness.read(reg) == count, f"Register {reg.name}"
        assert await harness.read(Reg.RESET) == 0
        assert await harness.read(Reg.MASK) == (1 << CONFIG.slots) - 1
        await harness.settle()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def has_no_second_address(dut):
    """What a run has counted is at one address: there is nothing where one bit of it differs."""
    harness = Harness(dut)
    await reset(dut)
    while not all([await harness.read(reg) for reg in COUNTERS.values()]):
        harness.send(Reg.GO, 0)
        await harness.read(Reg.WAIT)
    known = {reg.value for reg in Reg} | {Reg.DIGEST.value + offset for offset in range(0, 16, 4)}
    for reg in COUNTERS.values():
        for bit in range(2, regs.RESULT_BASE.bit_length() - 1):
            address = reg.value ^ 1 << bit
            if address not in known:
                assert await harness.read(address) == 0, f"{address:#x}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells_of_a_fault(dut):
    harness = Harness(dut)
    harness.machine.fails = True
    await reset(dut)
    harness.send(Reg.GO, 0)
    assert await harness.read(Reg.WAIT) == status(fault=1)
    assert await harness.read(Reg.CYCLES) == harness.machine.counts[Reg.CYCLES]
    harness.send(Reg.GO, 0)
    assert await harness.read(Reg.STATUS) == status(fault=1)
    assert harness.machine.steps == 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_the_tape_back(dut):
    """A check begins once, keeps the machine busy, and is not counted as a run; neither begins in the other."""
    harness, begun = Harness(dut), []
    await reset(dut)
    harness.send(Reg.GO, 0)
    cycles = await harness.read(Reg.WAIT) or await harness.read(Reg.CYCLES)

    async def check():
        while True:
            await ReadOnly()
            begins = int(dut.check.value)
            await RisingEdge(dut.clk)
            if begins:
                begun.append(1)
                dut.checking.value = 1
    cocotb.start_soon(check())
    harness.send(Reg.CHECK, 0)
    harness.send(Reg.GO, 0)
    assert await harness.read(Reg.STATUS) == status(busy=1)
    waiting = cocotb.start_soon(harness.read(Reg.WAIT))
    await ClockCycles(dut.clk, 50)
    assert not waiting.done()
    dut.crc.value, dut.checking.value = 0x1234ABCD, 0
    assert await waiting == status()
    assert await harness.read(Reg.CRC) == 0x1234ABCD
    assert await harness.read(Reg.CYCLES) == cycles
    assert (len(begun), harness.machine.steps) == (1, 1)
    harness.send(Reg.GO, 0)
    while harness.machine.steps == 1:
        await RisingEdge(dut.clk)
    harness.machine.left = 1000         # the run goes on
    harness.send(Reg.CHECK, 0)
    await harness.settle()
    harness.machine.left = 1
    await harness.read(Reg.WAIT)
    assert (len(begun), harness.machine.steps) == (1, 2)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.4])
async def shows_results_and_sums(dut, stall):
    harness = Harness(dut, i_stall=stall, o_stall=stall)
    machine = harness.machine
    await reset(dut)
    expected = []
    for slot in range(CONFIG.slots):
        expected.append((regs.result_address(slot, regs.RESULT_SCALE), machine.scales[slot]))
        for place, (row, total) in enumerate(machine.top[slot]):
            expected.append((regs.result_address(slot, regs.RESULT_TOP + 2 * place), row))
            expected.append((regs.result_address(slot, regs.RESULT_TOP + 2 * place + 1), total & WORD))
        for row in range(CONFIG.rows):
            expected.append((regs.sum_address(CONFIG, slot, row), machine.sums[slot][row] & WORD))
        for element in range(CONFIG.hidden if CONFIG.readable else 0):
            expected.append((regs.vector_address(CONFIG, slot, element), machine.x[slot][element]))
    # There is nothing behind the last candidate and the last slot.
    words = regs.RESULT_STRIDE // 4
    expected += [(regs.result_address(slot, word), 0) for slot in range(CONFIG.slots)
                 for word in range(regs.RESULT_TOP + 2 * CONFIG.top_k, words)]
    expected += [(regs.result_address(CONFIG.slots, word), 0) for word in range(words)]
    expected += [(regs.HISTORY_BASE - regs.RESULT_STRIDE + 4 * word, 0) for word in range(words)]
    expected += [(regs.SUMS_BASE - regs.RESULT_STRIDE + 4 * word, regs.NO_TOKEN) for word in range(words)]
    rng.shuffle(expected)
    for address, _ in expected:
        harness.send(address)
    for (address, word), answer in zip(expected, await harness.answers.get(len(expected))):
        assert answer == word, f"Word at {address:#x} must be {word:#x}, not {answer:#x}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0, 0.4])
async def waits_for_a_token(dut, stall):
    """A token is told when its step is complete, or as none when the run ends before."""
    harness = Harness(dut, i_stall=stall, o_stall=stall)
    machine = harness.machine
    await reset(dut)
    machine.history = {step << CONFIG.slot_bits | slot: rng.randrange(1000)
                       for step in range(4) for slot in range(CONFIG.slots)}
    machine.history[1 << CONFIG.slot_bits] = (1 << regs.TOKEN_BITS) - 1     # took no part
    harness.send(Reg.GO, 0)
    while not machine.steps:
        await RisingEdge(dut.clk)
    for step in range(4):
        harness.send(regs.history_address(CONFIG, step, 0))
        waiting = cocotb.start_soon(harness.answers.get(1))
        if step < 3:
            machine.left = 1000         # the run goes on
            await ClockCycles(dut.clk, 60)
            assert not waiting.done()
            dut.done.value = step + 1
        else:
            machine.left = 1
        [answer] = await waiting
        assert answer == (machine.history[step << CONFIG.slot_bits] if step in (0, 2) else regs.NO_TOKEN)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def latency(dut):
    harness = Harness(dut)
    await reset(dut)
    for _ in range(5):
        harness.send(regs.TAPE_BASE, 1)
        harness.send(Reg.HIDDEN, 2)
    for _ in range(5):
        harness.send(Reg.HIDDEN)
    cocotb.start_soon(harness.tape.get(5))
    await harness.answers.get(5)
    taken = harness.accesses.cycles
    assert [after - before for before, after in zip(taken, taken[1:11])] == [Registers.WRITE_CYCLES] * 10
    assert [answer - access for access, answer in zip(taken[10:], harness.answers.cycles)] \
        == [Registers.READ_CYCLES] * 5
    assert [after - before for before, after in zip(taken[10:], taken[11:])] == [Registers.READ_CYCLES + 1] * 4


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(after=[3, 6, 20, 41])
async def resumes_after_reset(dut, after):
    harness = Harness(dut)
    await reset(dut)
    for word in range(10):
        harness.send(Reg.HIDDEN, word)
        harness.send(regs.TAPE_BASE, word)
        harness.send(Reg.GO, word)
        harness.send(Reg.HIDDEN)
    tasks = [cocotb.start_soon(port.get(100)) for port in (harness.answers, harness.tape)]
    await ClockCycles(dut.clk, after)
    for task in tasks:
        task.cancel()
    for port in (harness.accesses, harness.answers, harness.tape):
        port.clear()
    await reset(dut)
    assert await harness.read(Reg.HIDDEN) == 0
    assert await harness.read(Reg.CYCLES) == 0
    assert await harness.read(Reg.WAIT) == status()
