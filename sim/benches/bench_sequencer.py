"""Bench of the sequencer: random tapes, and what each of them must hand to whom."""

import itertools
import json
import os
import random

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from terngen.hw.contract import tape
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Descriptor, Mark, Op
from terngen.hw.control.sequencer import SEGMENT_CYCLES, Sequencer, cycles, segment_layout
from terngen.hw.units.matvec import Command
from terngen.hw.units.vector import command_layout
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Sink, Source, encode, reset

CONFIG = Config.from_dict(json.loads(os.environ["CONFIG"]))
#: Elements of an embedding row.
HIDDEN = 7

rng = random.Random(int(os.environ["SEED"]))


def beats(octets) -> list[int]:
    size = CONFIG.beat_bytes
    return [int.from_bytes(octets[place:place + size], "little") for place in range(0, len(octets), size)]


def draw_octets(count: int) -> bytes:
    return rng.randbytes(count * CONFIG.beat_bytes)


def draw_descriptor(op: Op, *, weighted=None) -> bytes:
    """A descriptor with whatever may be in its fields, and the beats that belong to it."""
    fields = {name: rng.getrandbits(field.width) for name, field in Descriptor.as_shape()
              if name != "opcode"}
    fields["weighted"] = op is not Op.MATVEC and rng.randrange(2) if weighted is None else weighted
    fields["beats"] = (rng.randrange(1, 30) if op is Op.MATVEC
                       else fields["weighted"] * rng.randint(1, CONFIG.parameter_beats(CONFIG.wide)))
    fields["length"] = rng.randint(1, tape.longest(CONFIG, op, source=fields["source"]))
    if op is Op.MATVEC:
        fields["place"] = rng.randint(1, CONFIG.wide)
    if op is Op.MLGRU:
        fields["place"] = rng.randint(0, (CONFIG.state - fields["length"]) // CONFIG.lanes)
    return tape.pack_descriptor(CONFIG, opcode=op, **fields) + draw_octets(fields["beats"])


class Segment:
    """Beats that come next, and everything that must become of them."""

    def __init__(self, octets: bytes, *, slot: int | None = None):
        self.octets  = octets
        self.command = {"embed": slot is not None, "slot": slot or 0, "beats": len(octets) // CONFIG.beat_bytes}
        self.vector, self.load, self.parameters, self.matvec, self.weights = [], [], [], [], []
        self.ends = []                          # for each beat of the weights, whether its matrix ends
        if slot is not None:
            count = len(beats(octets))
            self.load, self.parameters = [count], beats(octets)
            self.vector = [({"opcode": Op.EMBED, "length": HIDDEN, "weighted": 1, "beats": count}, slot)]
            self.cycles = SEGMENT_CYCLES + count
            return
        self.cycles = SEGMENT_CYCLES
        image = np.frombuffer(octets, np.uint8)
        for _, fields, owned in tape.walk(CONFIG, image, Mark(0, self.command["beats"])):
            self.cycles += cycles(CONFIG, beats=fields["beats"])
            if fields["opcode"] is Op.MATVEC:
                self.matvec.append((fields["length"], fields["place"], fields["release"],
                                    fields["place"] <= CONFIG.block_cols))
                self.weights += beats(owned.tobytes())
                self.ends    += [0] * (fields["beats"] - 1) + [1]
            else:
                self.vector.append((fields, None))
                self.load += [fields["beats"]] * fields["weighted"]
                self.parameters += beats(owned.tobytes())

    @classmethod
    def draw(cls):
        if rng.randrange(3) == 0:
            return cls(draw_octets(CONFIG.parameter_beats(HIDDEN)), slot=rng.randrange(CONFIG.slots))
        ops = [op for op in Op if op is not Op.EMBED]
        return cls(b"".join(draw_descriptor(rng.choice(ops)) for _ in range(rng.randrange(20))))


class Harness:
    def __init__(self, dut, *, segment=0.0, beats=0.0, vector=0.0, load=0.0, array=0.0):
        def chance(value):
            return lambda: rng.random() < value

        unit = Sequencer(CONFIG)
        self.dut      = dut
        self.segments = Source(dut, "segment", shape=segment_layout(CONFIG), stall=chance(segment))
        self.beats    = Source(dut, "beats", stall=chance(beats))
        self.sinks    = {
            "vector":     Sink(dut, "vector", shape=command_layout(CONFIG), stall=chance(vector)),
            "load":       Sink(dut, "load", shape=unit.load.payload.shape(), stall=chance(load)),
            "parameters": Sink(dut, "parameters", shape=CONFIG.beat_bits, stall=chance(load)),
            "matvec":     Sink(dut, "matvec", shape=Command, stall=chance(array)),
            "weights":    Sink(dut, "weights", shape=CONFIG.beat_bits, stall=chance(array)),
        }
        #: Clock cycles of each kind of stall.
        self.stalls   = {"stall_tape": [], "stall_array": [], "stall_vector": []}
        #: Segments and operations that had been taken whenever it was idle.
        self.idle_at  = set()
        #: Of the weights that are still to be taken.
        self.ends     = []
        dut.hidden.value = HIDDEN
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await RisingEdge(self.dut.clk)
            self.dut.matvec_end.value = bool(self.ends and self.ends[0])
            await ReadOnly()
            if self.dut.weights__valid.value == 1 and self.dut.weights__ready.value == 1:
                self.ends = self.ends[1:]
            for name, when in self.stalls.items():
                if int(getattr(self.dut, name).value):
                    when.append(round(get_sim_time("ns")) // CLOCK_PERIOD_NS)
            if int(self.dut.idle.value):
                self.idle_at.add((len(self.segments.cycles), len(self.sinks["vector"].cycles)))

    def send(self, segments: list[Segment]):
        self.segments.send(segment.command for segment in segments)
        self.ends += [end for segment in segments for end in segment.ends]
        self.beats.send(beat for segment in segments for beat in beats(segment.octets))

    async def check(self, segments: list[Segment], *, sinks=None):
        """Take all that the segments become."""
        taking = {}
        for name, sink in self.sinks.items():
            if sinks is None or name in sinks:
                expected = [entry for segment in segments for entry in getattr(segment, name)]
                taking[name] = expected, cocotb.start_soon(sink.get(len(expected)))
        for name, (expected, task) in taking.items():
            actual = await task
            if name == "matvec":
                actual = [(command.rows, command.cols, command.release, command.single) for command in actual]
            if name == "vector":
                for (fields, slot), command in zip(expected, actual):
                    bits = encode(fields, Descriptor)
                    assert command.descriptor.as_bits() == bits, f"Descriptor must be {fields}"
                    assert slot is None or command.slot == slot
            else:
                assert actual == expected, f"Stream {name}"

    async def idle(self) -> bool:
        await ReadOnly()
        value = bool(int(self.dut.idle.value))
        await RisingEdge(self.dut.clk)
        return value


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize((("segment", "beats", "vector", "load", "array"), [
    (0, 0, 0, 0, 0), (0.95, 0, 0, 0, 0), (0, 0.4, 0, 0, 0), (0, 0, 0.97, 0, 0), (0, 0, 0, 0.6, 0), (0, 0, 0, 0, 0.6),
    (0, 0.3, 0.9, 0.3, 0.3)]))
async def splits(dut, segment, beats, vector, load, array):
    harness  = Harness(dut, segment=segment, beats=beats, vector=vector, load=load, array=array)
    segments = [Segment.draw() for _ in range(10)]
    await reset(dut)
    assert await harness.idle()
    harness.send(segments)
    await harness.check(segments)
    await ClockCycles(dut.clk, 4)
    assert await harness.idle()

    # Nobody is blamed for a stall who has not caused it, and every cycle is accounted for.
    assert beats or not harness.stalls["stall_tape"]
    assert vector or load or not harness.stalls["stall_vector"]
    assert array or not harness.stalls["stall_array"]
    taken  = harness.segments.cycles
    stalls = sum(cycle > taken[0] for when in harness.stalls.values() for cycle in when)
    if not segment:
        assert taken[-1] - taken[0] == sum(each.cycles for each in segments[1:]) + stalls
    # It is idle only when everything before has been taken.
    operations = [0, *itertools.accumulate(len(each.vector) for each in segments)]
    assert harness.idle_at <= set(enumerate(operations))


@cocotb.test(timeout_time=200, timeout_unit="us")
async def runs_ahead_of_the_vector_unit(dut):
    """As far as the queue is deep; then the tape waits, and the machine is not idle before the queue is empty."""
    harness  = Harness(dut)
    segments = [Segment(b"".join(draw_descriptor(Op.SILU, weighted=0) for _ in range(Sequencer.QUEUE))
                        + draw_descriptor(Op.MATVEC)),
                Segment(draw_descriptor(Op.SILU, weighted=0) + draw_descriptor(Op.MATVEC))]
    await reset(dut)
    harness.send(segments)
    matrices = cocotb.start_soon(harness.check(segments[:1], sinks=["matvec", "weights"]))
    await ClockCycles(dut.clk, 40 * Sequencer.QUEUE)
    assert matrices.done()
    assert len(harness.segments.cycles) == 1
    assert harness.stalls["stall_vector"]
    assert not await harness.idle()
    cocotb.start_soon(harness.check(segments[1:], sinks=["matvec", "weights"]))
    await harness.check(segments, sinks=["vector"])
    await ClockCycles(dut.clk, 40)
    assert await harness.idle()


#: What is changed in a sensible descriptor with one beat, and the beats that follow it; each makes no sense.
SENSELESS = {
    **{f"operation {number}": ({"opcode": number}, 1) for number in range(Op.LOGITS.value + 1, 16)},
    "embedding row":      ({"opcode": Op.EMBED}, 1),
    "no elements":        ({"length": 0}, 1),
    "long for X":         ({"length": CONFIG.hidden + 1}, 1),
    "long square of X":   ({"opcode": Op.SQUARE, "length": CONFIG.hidden + 1}, 1),
    "long square of T1":  ({"opcode": Op.SQUARE, "length": CONFIG.wide + 1, "source": 1}, 1),
    "long for T0":        ({"opcode": Op.GATE, "length": CONFIG.wide + 1}, 1),
    "too many rows":      ({"opcode": Op.MATVEC, "length": CONFIG.rows + 1}, 1),
    "no columns":         ({"opcode": Op.MATVEC, "place": 0}, 1),
    "too many columns":   ({"opcode": Op.MATVEC, "place": CONFIG.wide + 1}, 1),
    "matrix of no beats": ({"opcode": Op.MATVEC, "beats": 0}, 0),
    "past the state":     ({"opcode": Op.MLGRU, "place": CONFIG.groups(CONFIG.state)}, 1),
    "no parameters":      ({"beats": 0}, 0),
    "not weighted":       ({"weighted": 0}, 1),
    "too many parameters": ({"beats": CONFIG.parameter_beats(CONFIG.wide) + 1},
                            CONFIG.parameter_beats(CONFIG.wide) + 1),
    "past the end":       ({"beats": 2}, 1),
    "cut short":          ({}, -1),
}


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(case=[name for name in SENSELESS if name != "cut short" or tape.descriptor_beats(CONFIG) > 1])
async def stops_at_what_makes_no_sense(dut, case):
    harness = Harness(dut)
    await reset(dut)
    good    = Segment(draw_descriptor(Op.MATVEC) + draw_descriptor(Op.SCAN))
    changes, count = SENSELESS[case]
    sensible = {"opcode": Op.SCAN, "weighted": 1, "length": 1, "place": 1, "beats": 1}
    wrong    = tape.pack_descriptor(CONFIG, **sensible | changes)
    wrong    = wrong + draw_octets(count) if count >= 0 else wrong[:-CONFIG.beat_bytes]
    harness.send([good])
    await harness.check([good])
    harness.segments.send([{"beats": len(beats(wrong))}])
    harness.beats.send(beats(wrong))
    for sink in harness.sinks.values():
        cocotb.start_soon(sink.get(1))
    before = [len(sink.cycles) for sink in harness.sinks.values()]
    await ClockCycles(dut.clk, 30)
    await ReadOnly()
    assert int(dut.fault.value)
    assert not int(dut.idle.value)
    assert [len(sink.cycles) for sink in harness.sinks.values()] == before
    assert len(harness.segments.cycles) == 1


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(taken=[1, 2, 4])
async def stops_where_a_matrix_ends_elsewhere(dut, taken):
    """The descriptor claims three beats, the array wants as many as `taken`."""
    harness = Harness(dut)
    await reset(dut)
    octets  = tape.pack_descriptor(CONFIG, opcode=Op.MATVEC, length=1, place=1, beats=3) + draw_octets(3)
    segment = Segment(octets + draw_descriptor(Op.SCAN))
    segment.ends = [0] * (taken - 1) + [1]
    harness.send([segment])
    for sink in harness.sinks.values():
        cocotb.start_soon(sink.get(1 << 20))
    await ClockCycles(dut.clk, 40)
    await ReadOnly()
    assert int(dut.fault.value)
    assert not int(dut.idle.value)
    assert len(harness.sinks["weights"].cycles) == min(taken, 3)
    assert not harness.sinks["vector"].cycles


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(after=[1, 4, 11, 30, 70])
async def resumes_after_reset(dut, after):
    harness = Harness(dut, vector=0.5, load=0.5, array=0.5)
    await reset(dut)
    harness.send([Segment.draw() for _ in range(10)])
    tasks = [cocotb.start_soon(sink.get(1 << 20)) for sink in harness.sinks.values()]
    await ClockCycles(dut.clk, after)
    for task in tasks:
        task.cancel()
    for port in (harness.segments, harness.beats, *harness.sinks.values(), harness.ends):
        port.clear()
    await reset(dut)
    segments = [Segment.draw() for _ in range(3)]
    harness.send(segments)
    await harness.check(segments)
