"""Bench of the whole machine: the host's own driver, through the link, against the golden machine."""

import os
import random
import time
from pathlib import Path

import cocotb
import numpy as np
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, Event, FallingEdge
from cocotb.utils import get_sim_time

from terngen.host.device import Device
from terngen.host.link import FrameTransport
from terngen.hw.contract import regs
from terngen.hw.contract.tape import Play, Tape
from terngen.hw.contract.wire import Frame, Type, encode_frame
from terngen.hw.tape.loader import load_layout
from terngen.sim.bench import greedy
from terngen.sim.cocotb_stream import CLOCK_PERIOD_NS, Sink, Source, reset
from terngen.sim.gate import CheckedTransport
from terngen.sim.trace import decode, event_words

#: Octets at the end of the tape that come over the link.
LINK_OCTETS = 2048


class Memory:
    """A tape memory at the streams of the machine, with a latency; stalls are those of the streams."""

    def __init__(self, dut, config, image, loaded, *, latency, stall):
        self._config, self._latency = config, latency
        self._clk   = dut.clk
        self._beats = np.where(np.arange(len(image)) < loaded, image, 0xEE).reshape(-1, config.beat_bytes)
        self._play  = Sink(dut, "play", shape=Play, stall=stall)
        self._load  = Sink(dut, "load", shape=load_layout(config), stall=stall)
        self._out   = Source(dut, "beats", stall=stall)
        cocotb.start_soon(self._serve())
        cocotb.start_soon(self._store())

    async def _serve(self):
        while True:
            request, = await self._play.get(1)
            for _ in range(self._latency):
                await FallingEdge(self._clk)
            part = self._beats[request.start:request.start + request.count]
            self._out.send([int.from_bytes(beat.tobytes(), "little") for beat in part])

    async def _store(self):
        while True:
            write, = await self._load.get(1)
            self._beats[write.address] = np.frombuffer(
                write.data.to_bytes(self._config.beat_bytes, "little"), np.uint8)


class Pipe:
    """The link, for the thread in which the host runs."""

    description = "machine on the bench"

    def __init__(self, dut, stall):
        self._source   = Source(dut, "link_i", stall=stall)
        self._sink     = Sink(dut, "link_o", stall=stall)
        self._received = bytearray()
        self._came     = Event()
        cocotb.start_soon(self._listen())

    async def _listen(self):
        while True:
            octet, = await self._sink.get(1)
            self._received.append(octet.to_unsigned())
            self._came.set()

    @resume
    async def send(self, octets):
        """See :class:`~terngen.host.transport.BytePipe`."""
        await self._source.put(octets)

    @resume
    async def receive(self, max_octets, timeout):
        """See :class:`~terngen.host.transport.BytePipe`. The time limit is that of the bench."""
        while not self._received:
            self._came.clear()
            await self._came.wait()
        octets = bytes(self._received[:max_octets])
        del self._received[:max_octets]
        return octets

    def close(self):
        """Nothing is held."""


class Transport(FrameTransport):
    """The machine on the bench, whose inside can be seen."""

    def __init__(self, dut, config, pipe):
        self.config = config
        self._words = []
        cocotb.start_soon(self._watch(dut))
        forever     = 1e9
        self._open  = lambda: FrameTransport.__init__(self, pipe, timeout=forever, patience=forever)

    def open(self):
        """Begin a session; in the thread of the host."""
        self._open()

    async def _watch(self, dut):
        while True:
            await FallingEdge(dut.clk)
            if dut.trace__valid.value.is_resolvable and dut.trace__valid.value:
                self._words.append(int(dut.trace__event.value))

    def trace(self, on=True):
        """Events are always collected."""

    def events(self):
        """See :class:`~terngen.sim.gate.Traced`."""
        count = event_words(self.config)
        words = [[word >> 32 * index & 0xFFFF_FFFF for index in range(count)] for word in self._words]
        self._words.clear()
        return decode(self.config, np.array(words, np.uint32).reshape(-1, count))


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def tokens_equal_golden_machine(dut):
    """Every stream stalls with the probability ``STALL``.

    Most of the tape is in the memory already, the rest comes over the link.
    """
    rng  = random.Random(int(os.environ["SEED"]))
    tape = Tape.open(Path(os.environ["TAPE"]))

    def stalls():
        return rng.random() < float(os.environ["STALL"])

    loaded = len(tape.image) - LINK_OCTETS
    Memory(dut, tape.config, tape.image, loaded, latency=5, stall=stalls)
    transport = Transport(dut, tape.config, Pipe(dut, stalls))
    await reset(dut, cycles=4)

    @bridge
    def host():
        transport.open()
        checked = CheckedTransport(transport)
        device  = Device(checked, tape)
        checked.golden.write(regs.TAPE_BASE, tape.image[:loaded].tobytes())
        device.load(start=loaded)
        begin, cycle = time.monotonic(), get_sim_time("ns")
        greedy(device, int(os.environ["TOKENS"]), seed=rng.getrandbits(31))
        if report := os.environ.get("REPORT"):
            cycles = (get_sim_time("ns") - cycle) / CLOCK_PERIOD_NS
            Path(report).write_text(f"{time.monotonic() - begin} {cycles}")
        assert device.results(0).tokens.size
        return checked

    checked = await host()
    assert checked.mismatches == 0
    assert checked.values_compared > 5000 * int(os.environ["TOKENS"])


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def session_leaves_what_is_offered(dut):
    """A beat for the memory stays on offer while another session begins."""
    config = Tape.open(Path(os.environ["TAPE"])).config
    link, load = Source(dut, "link_i"), Sink(dut, "load", shape=load_layout(config))
    for port in (Source(dut, "beats"), Sink(dut, "play"), Sink(dut, "link_o")):
        port.clear()
    await reset(dut, cycles=4)
    octets = bytes(range(1, max(config.beat_bytes, 4) + 1))
    await link.put(encode_frame(Frame(type=Type.HELLO, generation=1))
                   + encode_frame(Frame(type=Type.WRITE, generation=1, sequence=1, address=regs.TAPE_BASE,
                                        length=len(octets), payload=octets)))
    await ClockCycles(dut.clk, 100)
    assert dut.load__valid.value
    await link.put(encode_frame(Frame(type=Type.HELLO, generation=2)))
    await ClockCycles(dut.clk, 100)
    write, = await load.get(1)
    assert write.address == 0
    assert write.data == int.from_bytes(octets[:config.beat_bytes], "little")
