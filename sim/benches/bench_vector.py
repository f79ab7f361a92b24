"""Bench of the vector unit: random operations, every event equal to the golden machine's.

Parameters, sums and codes are played here, with the latencies that their signatures promise.
"""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge

from terngen.hw.contract import formats, regs, tape, trace
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import DRAINS, Mark, Op
from terngen.hw.units import parameters, sums
from terngen.hw.units.sampler import PLACE_LATENCY
from terngen.hw.units.vector import LOOK_LATENCY, Vector, command_layout
from terngen.sim.cocotb_stream import Source, reset
from terngen.sim.golden.machine import GoldenMachine
from terngen.sim.trace import decode, event_words


def operations(config, rng, *, hidden, wide):
    """A random program: descriptor fields, and what it needs besides."""
    fmt = config.path
    floats = np.random.default_rng(rng.getrandbits(32))

    def weights(length):
        values = np.exp(floats.normal(0, 1, length)) * floats.choice([-1, 1], length)
        values[floats.random(length) < 0.1] = 0
        return formats.from_float(fmt.parameter, values)

    def code(value, fmt=fmt):
        return int(formats.from_float(fmt, value))

    def descriptor(op, length, **fields):
        given = fields.pop("weights", False)
        return {"opcode": op, "length": length, "weighted": int(given),
                "scale": code(0.002 * 2.0**rng.randint(-2, 4)), "weight": code(0.75), **fields}

    root_term = code(1e-4, fmt.wide)
    start = rng.randrange(config.groups(config.state) - config.groups(wide) + 1)
    program = [
        descriptor(Op.SCAN, hidden, weights=True), descriptor(Op.QUANTISE, hidden),
        descriptor(Op.SQUARE, hidden, weights=True, first=1, last=1, scale=root_term),
        descriptor(Op.GATE, wide, weights=rng.random() < 0.5),
        descriptor(Op.STORE, wide, first=1),
        descriptor(Op.MLGRU, wide, weights=True, place=start), descriptor(Op.QUANTISE, wide),
        descriptor(Op.SQUARE, wide, weights=True, source=1, last=1, scale=root_term),
        descriptor(Op.RESIDUAL, hidden, weights=True), descriptor(Op.QUANTISE, hidden),
        descriptor(Op.SILU, wide), descriptor(Op.GLU, wide, weights=True),
        descriptor(Op.QUANTISE, wide),
        descriptor(Op.SQUARE, wide, source=1, first=1, last=1, scale=root_term),
        descriptor(Op.RESIDUAL, hidden, weights=True),
        descriptor(Op.LOGITS, wide, first=1), descriptor(Op.LOGITS, wide),
    ]
    for fields in program:
        fields["parameters"] = weights(fields["length"])
        spread = 10.0 ** floats.uniform(0.5, 3.5)
        fields["sums"] = np.clip(floats.normal(0, spread, (config.slots, fields["length"])),
                                 -127 * config.wide, 127 * config.wide).astype(np.int64)
        fields["tags"] = formats.from_float(fmt, np.exp(floats.normal(0, 1, config.slots)))
    return program


class Bank:
    """Queue whose front is read by group (and slot), with a latency."""

    def __init__(self, latency):
        self._pending = [None] * latency
        self.front = None

    def answer(self, address):
        """Data of the address of `latency` cycles ago."""
        self._pending.append(address)
        address = self._pending.pop(0)
        return None if address is None or self.front is None else self.front(*address)


def padded(values, lanes):
    """Lane groups of a vector, the last one filled up with zeros."""
    return np.concatenate([values, np.zeros(-len(values) % lanes, values.dtype)]).reshape(-1, lanes)


@cocotb.test(timeout_time=3, timeout_unit="ms")
@cocotb.parametrize((("i_stall", "o_stall"), [(0, 0), (0.4, 0.95)]))
async def equals_golden_machine(dut, i_stall, o_stall):
    config = Config.from_dict(json.loads(os.environ["CONFIG"]))
    rng    = random.Random(int(os.environ["SEED"]))
    hidden, wide = config.hidden, config.wide
    fmt    = config.path

    golden = GoldenMachine(config, np.zeros(0, np.uint8))
    events = []
    golden.observe = events.append

    source = Source(dut, "command", shape=command_layout(config), stall=lambda: rng.random() < i_stall)
    dut.mask.value = dut.clear.value = dut.states.value = 0
    dut.vocab.value = 2 * wide - 3
    for name in ("weights__ready", "weights__codes", "sums__ready", "sums__tags", "sums__sums",
                 "codes__free", "top_slot", "top_place"):
        getattr(dut, name).value = 0
    await reset(dut, cycles=4)      # the first edge may still see unknown inputs

    words, codes   = [], []
    weights, rows = Bank(parameters.READ_LATENCY), Bank(sums.READ_LATENCY)
    needs = {"weights": False, "sums": False, "codes": False}
    there = dict.fromkeys(needs, False)         # what is needed may be late, but stays until it is taken
    spent = [0]                     # cycles in which an operation was offered
    unit  = Vector(config)

    async def surroundings():
        while True:
            await FallingEdge(dut.clk)
            for name, needed in needs.items():
                there[name] = needed and (there[name] or rng.random() >= o_stall)
            dut.weights__ready.value = there["weights"]
            dut.sums__ready.value    = there["sums"]
            dut.codes__free.value    = there["codes"]
            group  = (int(dut.weights__group.value),)
            groups = weights.answer(group if there["weights"] else None)
            dut.weights__codes.value = groups if groups is not None else rng.getrandbits(fmt.width)
            group = (int(dut.sums__slot.value), int(dut.sums__group.value))
            found = rows.answer(group if there["sums"] else None)
            dut.sums__sums.value = found if found is not None else rng.getrandbits(config.acc_width)
            if dut.trace__valid.value:
                words.append(int(dut.trace__event.value))
            if dut.codes__valid.value:
                assert there["codes"]
                codes.append((int(dut.codes__slot.value), int(dut.codes__group.value),
                              int(dut.codes__codes.value)))
            spent[0] += int(dut.command__valid.value)
            if dut.weights__pop.value:
                assert there["weights"]
                needs["weights"] = False
            if dut.sums__pop.value:
                assert there["sums"]
                needs["sums"] = False
            if dut.codes__push.value:
                assert there["codes"]
                needs["codes"] = False

    cocotb.start_soon(surroundings())

    def pack(values, width):
        return sum(int(value) % (1 << width) << width * lane for lane, value in enumerate(values))

    async def execute(fields, slot=0):
        vector, taken = fields["parameters"], fields["sums"]
        is_row  = fields["opcode"] is Op.EMBED
        widened = padded(formats.convert(config.embedding_format if is_row else fmt.parameter, fmt, vector),
                         config.lanes)
        groups  = [padded(row, config.lanes) for row in taken]
        weights.front = lambda group: pack(widened[group % len(widened)], fmt.width)
        rows.front = lambda slot, group: pack(groups[slot % config.slots][group % len(widened)],
                                              config.acc_width)
        dut.sums__tags.value = pack(fields["tags"], fmt.width)
        needs["weights"] = bool(fields["weighted"])
        needs["sums"]    = fields["opcode"] in DRAINS
        needs["codes"]   = fields["opcode"] is Op.QUANTISE
        plain = {name: fields[name] for name in fields if name not in ("parameters", "sums", "tags")}
        spent[0] = 0
        await source.put([{"descriptor": plain, "slot": slot}])
        last   = bool(fields.get("last"))
        active = 1 if fields["opcode"] is Op.EMBED else int(dut.mask.value).bit_count()
        cycles = unit.cycles(fields["opcode"], fields["length"], active=active, last=last)
        assert o_stall or spent[0] == cycles
        assert int(dut.weights__row.value) == is_row

    known  = np.zeros(golden.h.shape, bool)
    ever   = set()                  # slots that took part; of the others the memory has what it had, reset or not
    for _ in range(int(os.environ["ROUNDS"])):
        mask = rng.randrange(1, 1 << config.slots)
        on   = [slot for slot in range(config.slots) if mask >> slot & 1]
        ever.update(on)
        dut.mask.value = mask
        program = operations(config, rng, hidden=hidden, wide=wide)

        # At times slots are consecutive tokens of one sequence.
        numbers = [rng.randrange(config.slots) if rng.random() < 0.5 else slot for slot in range(config.slots)]
        golden.states[:] = numbers
        dut.states.value = pack(numbers, config.slot_bits)

        # A state that nobody knows is cleared before it is used.
        place, = (fields["place"] * config.lanes for fields in program if fields["opcode"] is Op.MLGRU)
        state  = slice(place, place + wide)
        clear  = []
        for slot in on:
            if rng.random() < 0.3 or not known[numbers[slot], state].all():
                clear.append(slot)
                known[numbers[slot], state] = True
        dut.clear.value = sum(1 << slot for slot in clear)
        for slot in on:
            row = {"opcode": Op.EMBED, "length": hidden, "weighted": 1, "tags": [0] * config.slots,
                   "parameters": formats.from_float(
                       config.embedding_format, np.random.default_rng(rng.getrandbits(32)).normal(0, 1, hidden)),
                   "sums": np.zeros((config.slots, hidden), np.int64)}
            golden.image = np.frombuffer(tape.pack_embedding(config, row["parameters"][None]), np.uint8)
            golden.embed({slot: 0}, 0, config.embedding_beats(hidden), hidden)
            await execute(row, slot)
        for fields in program:
            plain  = {name: value for name, value in fields.items()
                      if name not in ("parameters", "sums", "tags")}
            octets = tape.pack_parameters(config, fields["parameters"]) if fields["weighted"] else b""
            image  = tape.pack_descriptor(config, **plain, beats=len(octets) // config.beat_bytes) + octets
            golden.image = np.frombuffer(image, np.uint8)
            golden.forget()
            if fields["opcode"] in DRAINS:
                golden.push_sums(fields["sums"], fields["tags"])
            golden.play(Mark(0, len(image) // config.beat_bytes), on, reset=clear, vocab=2 * wide - 3)
            await execute(fields)
            if fields["opcode"] is Op.QUANTISE:
                expected = golden.pop_codes()
                await FallingEdge(dut.clk)
                actual = {(slot, group): word for slot, group, word in codes}
                assert actual == {(slot, group): pack(values, 8) for slot in on
                                  for group, values in enumerate(padded(expected[slot], config.lanes))}
                codes.clear()

    # Everything that the unit showed, in order.
    count  = event_words(config)
    raw    = np.array([[word >> 32 * index & 0xFFFF_FFFF for index in range(count)] for word in words],
                      np.uint32)
    actual = decode(config, raw)
    place  = 0
    for event in events:
        length = next(iter(event.elements.values())).shape[1]
        for index, slot in enumerate(event.slots):
            groups = config.groups(length)
            part   = slice(place, place + groups)
            assert (actual["op"][part] == event.op.value).all(), f"{event.op} at event {place}"
            assert (actual["slot"][part] == slot).all()
            assert (actual["group"][part] == np.arange(groups)).all()
            assert not actual["scalars"][part].any()
            for name in trace.ELEMENTS[event.op]:
                shown = actual[name][part].reshape(-1)[:length]
                wrong = np.flatnonzero(shown != event.elements[name][index])
                assert not len(wrong), (f"{event.op.name} {name} of slot {slot}: element {wrong[0]} is "
                                        f"{shown[wrong[0]]}, not {event.elements[name][index][wrong[0]]}")
            place += groups
            assert actual["scalars"][place]
            for name in event.scalars:
                assert actual[name][place] == event.scalars[name][index], (
                    f"{event.op.name} {name} of slot {slot}")
            place += 1
    assert place == len(words)

    # Results.
    for slot in range(config.slots):
        for index in range(config.top_k):
            dut.top_slot.value  = slot
            dut.top_place.value = index
            await ClockCycles(dut.clk, PLACE_LATENCY)
            await FallingEdge(dut.clk)
            assert int(dut.top_row.value) == golden.top_index[slot, index]
            assert dut.top_sum.value.to_signed() == golden.top_sum[slot, index]
        assert int(dut.top_scale.value) == golden.scale[slot]
    for group in range(config.slots * config.groups(config.hidden) if config.readable else 0):
        dut.look.value = group
        await ClockCycles(dut.clk, LOOK_LATENCY)
        await FallingEdge(dut.clk)
        seen = int(dut.seen.value)
        if group // config.groups(config.hidden) in ever:
            assert seen == pack(golden.x.reshape(-1, config.lanes)[group], fmt.width), f"Group {group}"
    assert regs.RESULT_TOP + 2 * config.top_k <= regs.RESULT_STRIDE // 4
