# amaranth: UnusedElaboratable=no
"""Rules that hold whatever comes: proofs of streams, queues and ports by Yosys, which pip installs.

``python -m terngen.sim.formal`` proves all of them and lists how: by induction, or from the reset on for so many
cycles. Inputs are free, but for the rules that whoever is on the other side obeys.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Elaboratable, Fragment
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from terngen.host.commands.console import Progress, emit, table
from terngen.hw import build
from terngen.hw.contract.config import PRESETS, ArrayVariant, Config
from terngen.hw.contract.formats import LMUL, FloatFormat
from terngen.hw.control.player import Player
from terngen.hw.control.registers import Registers
from terngen.hw.control.sequencer import Sequencer
from terngen.hw.link.cobs import CobsDecoder, CobsEncoder
from terngen.hw.link.endpoint import Executor, Replier
from terngen.hw.link.mailbox import Mailbox
from terngen.hw.link.receiver import Receiver
from terngen.hw.link.uart import Uart, UartReceiver
from terngen.hw.memory import Queue, StreamMemory
from terngen.hw.stream import Relay, SkidBuffer, Streamed
from terngen.hw.tape.axi import PAGE_BYTES, AxiTape
from terngen.hw.tape.check import TapeCheck
from terngen.hw.tape.loader import Loader
from terngen.hw.tape.onchip import OnChipTape
from terngen.hw.tape.reader import TapeReader
from terngen.hw.tape.striped import StripedTape
from terngen.hw.units.dot import Dot
from terngen.hw.units.lmul import LMul
from terngen.hw.units.reciprocal import Reciprocal
from terngen.hw.units.squaresum import InverseRoot, SquareSum
from terngen.hw.units.table import Tables
from terngen.sim.rules import JudgedSdram, gray_filling, sdram_rules

__all__ = ["CASES", "ELSEWHERE", "FILLED", "NARROW", "Case", "prove"]

#: Most cycles of an induction.
STEPS = 8


#: Adds assumptions and claims about a unit.
More = Callable[[Module, Any, "Claim"], None]


class _Elaborated(Elaboratable):
    """A unit of which the inside is known."""

    def __init__(self, fragment: Fragment) -> None:
        self._fragment = fragment

    def elaborate(self, platform: Any) -> Fragment:
        return self._fragment


def state_names(register: Signal) -> dict[int, str]:
    """Names of the states of an automaton, by what its register holds."""
    decoder = register.decoder
    names   = {}
    for number in range(1 << len(register)):
        try:
            names[number] = decoder(number).rpartition("/")[0]
        except KeyError:        # there are fewer
            break
    return names


class Claim:
    """A unit with free inputs that obey rules, and outputs that must.

    Parameters
    ----------
    unit
        Component under test.
    more
        Gets a module, the unit, and this, and adds what else is assumed and claimed.
    excuse
        Gets the unit; when what it gives is high, streams may be withdrawn in the next cycle.
    """

    def __init__(self, unit: Any, more: More | None,
                 excuse: Callable[[Any], Any] | None) -> None:
        self._unit, self._more, self._excuse = unit, more, excuse
        self._fragment = Fragment.get(unit, None)
        #: Free inputs.
        self.inputs: list[Signal] = []
        #: Streams of the unit that must obey the rules.
        self.claimed = 0

    def module(self) -> Module:
        """All of it."""
        m = Module()
        m.submodules.unit = _Elaborated(self._fragment)
        excused = Signal()
        if self._excuse is not None:
            m.d.sync += excused.eq(self._excuse(self._unit))
        self._walk(m, self._unit, self._unit.signature, Out, "", excused)
        if self._more is not None:
            self._more(m, self._unit, self)
        return m

    def inner(self, path: str) -> Signal:
        """A register inside the unit, like ``store.fetched``: what induction has to know of it can be claimed."""
        *way, name = path.split(".")
        for statements in self._part(way).statements.values():
            for statement in statements:
                for signal in statement._lhs_signals():
                    if signal.name == name:
                        return signal
        raise KeyError(path)

    def state(self, *names: str, path: str = "fsm_state") -> Any:
        """Whether an automaton inside is in one of some states."""
        register = self.inner(path)
        numbers  = {word: number for number, word in state_names(register).items()}
        return Cat(register == numbers[name] for name in names).any()

    def memory(self, m: Module, path: str, address: Any) -> tuple[Signal, Any]:
        """What a memory inside has at an address, and what the first port shows that reads it."""
        instance = self._part(path.split("."))
        assert isinstance(instance, MemoryInstance)
        shown = Value.cast(instance._read_ports[0]._data)
        place = Signal(len(instance._read_ports[0]._addr), name="looked_at")
        found = Signal(len(shown), name="found")
        m.d.comb += place.eq(address)
        instance.read_port(domain="comb", addr=place, data=found, en=Const(1), transparent_for=())
        return found, shown

    def write_port(self, path: str) -> tuple[Any, Any, Any]:
        """Address, data and enable of what is written into a memory inside."""
        instance = self._part(path.split("."))
        assert isinstance(instance, MemoryInstance)
        [port] = instance._write_ports
        return Value.cast(port._addr), Value.cast(port._data), Value.cast(port._en)

    def _part(self, way: list[str]) -> Fragment:
        part = self._fragment
        for step in way:
            part = next(fragment for fragment, name, _ in part.subfragments if name == step)
        return part

    def free(self, width: int, name: str) -> Signal:
        """An input that may be anything."""
        self.inputs.append(Signal(width, name=name))
        return self.inputs[-1]

    def _free(self, m: Module, value: Any, name: str) -> None:
        value = Value.cast(value)
        m.d.comb += value.eq(self.free(len(value), name))

    def _walk(self, m: Module, place: Any, signature: Any, flow: Any, path: str, excused: Any) -> None:
        for name, member in signature.members.items():
            for index, value in _each(getattr(place, name), member.dimensions):
                whose = flow if member.flow is Out else flow.flip()
                self._member(m, value, member, whose, f"{path}{name}{index}", excused)

    def _member(self, m: Module, value: Any, member: Any, flow: Any, name: str, excused: Any) -> None:
        if member.is_port:
            if flow is In:
                self._free(m, value, name)
            return
        signature = member.signature if member.flow is Out else member.signature.flip()     # as it was written
        if not isinstance(signature, stream.Signature):
            self._walk(m, value, signature, flow, f"{name}_", excused)
        elif flow is In:
            self._free(m, value.payload, f"{name}_payload")
            if not signature.always_valid:
                self._free(m, value.valid, f"{name}_valid")
            if not signature.always_ready:
                self._rule(m, value, Assume, name, Const(0))
        elif not signature.always_ready:
            self._free(m, value.ready, f"{name}_ready")
            self._rule(m, value, Assert, name, excused)
            self.claimed += 1

    def _rule(self, m: Module, each: Any, rule: Any, name: str, excused: Any) -> None:
        """What is offered stays on offer, and stays the same, until it is taken."""
        payload = Value.cast(each.payload).as_unsigned()
        waiting = Signal(name=f"{name}_waiting")
        offered = Signal(len(payload), name=f"{name}_offered")
        m.d.sync += [waiting.eq(each.valid & ~each.ready), offered.eq(payload)]
        with m.If(waiting & ~excused):
            m.d.comb += rule(each.valid & (payload == offered))


def _each(value: Any, dimensions: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if not dimensions:
        yield "", value
        return
    for index in range(dimensions[0]):
        for rest, each in _each(value[index], dimensions[1:]):
            yield f"{index}{rest}", each


def _queue(m: Module, claim: Claim, queue: Any, depth: int, path: str = "") -> tuple[Any, Any, Any]:
    """What is known of the inside of a queue: the place that is read next, what is in its memory, and how much is on
    its way out of it."""
    written, read = claim.inner(f"{path}written"), claim.inner(f"{path}read")
    held = Signal(len(read), name="held")
    m.d.comb += [
        held.eq(written - read), Assert(held <= depth), Assert(claim.inner(f"{path}full") == (held == depth)),
        Assert(claim.inner(f"{path}some") == (held != 0)),
    ]
    return read, held, claim.inner(f"{path}store.fetched")


def queue_keeps_order(depth: int) -> More:
    """As :func:`keeps_order`, with what there is of the one that is watched in each cycle, wherever it is."""
    def more(m: Module, unit: Any, claim: Claim) -> None:
        watched = _watched(m, unit.i, unit.o, claim, Queue.capacity(depth))
        read, held, fetched = _queue(m, claim, unit, depth)
        shown = unit.o.valid & (watched.before == 0)
        comes = ~shown & fetched & (watched.before == unit.o.valid)
        place = read + watched.before - unit.o.valid - fetched
        found, port = claim.memory(m, "store.memory", place)
        m.d.comb += Assert(watched.inside == held + fetched + unit.o.valid)
        with m.If(watched.is_inside):
            m.d.comb += [
                Assert(watched.before < watched.inside),
                Assert(Mux(shown, unit.o.payload, Mux(comes, port, found)) == watched.seen),
            ]
    return more


def relay_keeps_order(m: Module, unit: Any, claim: Claim) -> None:
    """The same for a relay."""
    watched = _watched(m, unit.i, unit.o, claim, 2)
    kept    = claim.inner("kept")
    m.d.comb += [Assert(~kept | unit.o.valid), Assert(watched.inside == kept + unit.o.valid)]
    with m.If(watched.is_inside):
        m.d.comb += [
            Assert(watched.before < watched.inside),
            Assert(Mux(watched.before == 0, unit.o.payload, claim.inner("spare")) == watched.seen),
        ]


def skid_keeps_order(m: Module, unit: Any, claim: Claim) -> None:
    """The same for a skid buffer: what it offers is what it holds, or else what is offered to it."""
    kept, put, get = claim.inner("kept"), unit.i.valid & unit.i.ready, unit.o.valid & unit.o.ready
    inside = Signal(2, name="inside")
    latest = Signal(len(Value.cast(unit.i.payload)), name="latest")
    m.d.sync += inside.eq(inside + put - get)
    with m.If(put):
        m.d.sync += latest.eq(unit.i.payload)
    m.d.comb += [
        Assert(inside == kept), Assert(unit.o.valid == (kept | unit.i.valid)),
        Assert(~unit.o.valid | (unit.o.payload == Mux(kept, latest, unit.i.payload))),
        Assert(~kept | (claim.inner("spare") == latest)),
    ]


def keeps_order(i: str, o: str, capacity: int) -> More:
    """What leaves is what came, in order, each once, and at most `capacity` are inside.

    One transfer is watched, whichever, so it stands for all: when as many have left as were inside before it, it is
    the one that leaves.
    """
    def more(m: Module, unit: Any, claim: Claim) -> None:
        _watched(m, getattr(unit, i), getattr(unit, o), claim, capacity)
    return more


@dataclasses.dataclass(frozen=True)
class _Watched:
    """One transfer on its way through a unit."""

    inside:    Any      # transfers that are
    before:    Any      # those of them before it
    seen:      Any      # its payload
    is_inside: Any


def _watched(m: Module, source: Any, sink: Any, claim: Claim, capacity: int) -> _Watched:
    inside = Signal(range(capacity + 2), name="inside")
    before = Signal.like(inside, name="before")
    seen   = Signal(len(Value.cast(source.payload)), name="seen")
    taken, gone = Signal(name="taken"), Signal(name="gone")
    watch  = claim.free(1, "watch") & ~taken
    put, get = source.valid & source.ready, sink.valid & sink.ready
    m.d.sync += inside.eq(inside + put - get)
    with m.If(put & watch):
        m.d.sync += [taken.eq(1), seen.eq(source.payload), before.eq(inside - get)]
    with m.Elif(get & taken & ~gone):
        m.d.sync += [before.eq(before - 1), gone.eq(before == 0)]
    m.d.comb += [Assert(inside <= capacity), Assert(~sink.valid | (inside != 0))]
    with m.If(taken & ~gone & sink.valid & (before == 0)):
        m.d.comb += Assert(Value.cast(sink.payload) == seen)
    return _Watched(inside, before, seen, taken & ~gone)


def axi_rules(burst: int) -> More:
    """Channels of an AXI4 port obey the rules of streams, and no burst runs over 4 KiB."""
    def more(m: Module, unit: Any, claim: Claim) -> None:
        axi = unit.axi
        for channel, names in (("aw", ("addr", "len", "size", "burst", "id")), ("w", ("data", "strb", "last")),
                               ("ar", ("addr", "len", "size", "burst", "id"))):
            valid, ready = getattr(axi, f"{channel}valid"), getattr(axi, f"{channel}ready")
            payload = Cat(*(getattr(axi, channel + name) for name in names))
            waiting, offered = Signal(name=f"{channel}_waiting"), Signal(len(payload), name=f"{channel}_offered")
            m.d.sync += [waiting.eq(valid & ~ready), offered.eq(payload)]
            with m.If(waiting):
                m.d.comb += Assert(valid & (payload == offered))
        octets = axi.signature.data_width // 8
        with m.If(axi.arvalid):
            first = axi.araddr % PAGE_BYTES
            m.d.comb += [Assert(first + (axi.arlen + 1) * octets <= PAGE_BYTES), Assert(axi.arlen < burst),
                         Assert(axi.arburst == 1)]
        with m.If(axi.wvalid):
            m.d.comb += Assert(axi.wlast & axi.wstrb.all())
    return more


def axi_room(m: Module, unit: Any, claim: Claim) -> None:
    """A memory that answers what it was asked for, in order, never waits: there is room for what is due, and for what
    is on offer to be asked for."""
    axi = unit.axi
    _, held, fetched = _queue(m, claim, unit, unit._depth, "queue.")
    inside = held + fetched + unit.beats.valid
    due, writes = Signal(8, name="due"), Signal(8, name="writes")           # beats, answers
    asked = axi.arvalid & axi.arready
    m.d.sync += [
        due.eq(due + Mux(asked, axi.arlen + 1, 0) - (axi.rvalid & axi.rready)),
        writes.eq(writes + (axi.wvalid & axi.wready) - (axi.bvalid & axi.bready)),
    ]
    m.d.comb += [Assume(~axi.rvalid | (due != 0)), Assume(~axi.bvalid | (writes != 0))]
    wanted = Mux(axi.arvalid, axi.arlen + 1, 0)
    m.d.comb += [Assert(axi.arlen < unit._burst), Assert(inside + due + wanted + claim.inner("room") == unit._depth)]
    with m.If(axi.rvalid):
        m.d.comb += Assert(axi.rready)


def axi_lite_rules(m: Module, unit: Any, claim: Claim) -> None:
    """Answers wait, unchanged, until they are taken, and each is one to a request."""
    bus = unit.bus
    wrote, asked = Signal(name="wrote"), Signal(name="asked")       # not answered yet
    for channel, payload in (("b", bus.bresp), ("r", Cat(bus.rdata, bus.rresp))):
        valid, ready = getattr(bus, f"{channel}valid"), getattr(bus, f"{channel}ready")
        waiting, offered = Signal(name=f"{channel}_waiting"), Signal(len(payload), name=f"{channel}_offered")
        m.d.sync += [waiting.eq(valid & ~ready), offered.eq(payload)]
        with m.If(waiting):
            m.d.comb += Assert(valid & (payload == offered))
    m.d.sync += [
        wrote.eq((wrote | bus.awvalid & bus.awready) & ~(bus.bvalid & bus.bready)),
        asked.eq((asked | bus.arvalid & bus.arready) & ~(bus.rvalid & bus.rready)),
    ]
    m.d.comb += [
        Assert(~bus.bvalid | wrote), Assert(~bus.rvalid | asked), Assert(bus.awready == bus.wready),
        Assert(wrote == claim.state("Put", "Answer write")), Assert(asked == claim.state("Get", "Answer read")),
    ]


def steady(busy: str, *names: str) -> More:
    """Some inputs do not change while the unit is busy, nor after the cycle before."""
    def more(m: Module, unit: Any, claim: Claim) -> None:
        inputs = Cat(*(Value.cast(getattr(unit, name)) for name in names))
        before = Signal(len(inputs), name="before")
        m.d.sync += before.eq(inputs)
        with m.If(getattr(unit, busy)):
            m.d.comb += Assume(inputs == before)
    return more


def check_is_used_well(m: Module, unit: Any, claim: Claim) -> None:
    """It is started while the machine is idle, and what it is to read stays."""
    steady("busy", "part")(m, unit, claim)
    with m.If(unit.start | unit.busy):
        m.d.comb += Assume(~unit.i.valid & ~unit.o.valid)


@dataclasses.dataclass(frozen=True)
class Case:
    """A unit, and what is claimed of it beside the rules of its streams."""

    name:   str
    make:   Callable[[], Any]
    more:   More | None = None
    excuse: Callable[[Any], Any] | None = None
    #: What it says, beside the rules of streams.
    claim:  str = ""
    #: Cycles from the reset on, where induction does not get there.
    depth:  int = 50
    #: Most cycles of an induction.
    steps:  int = STEPS


_CONFIG = Config.from_dict(PRESETS["small"].choices | {"hidden": 64, "wide": 64, "rows": 64, "state": 64, "history": 2})

#: A machine whose beats are two words of a narrow SDRAM.
NARROW = dataclasses.replace(_CONFIG, beat_bits=16, row_lanes=1)
#: Two tables, which are filled one after the other, for two blocks.
FILLED = dataclasses.replace(_CONFIG, variant=ArrayVariant.TABLE, beat_bits=16, row_lanes=1, lanes=1, builders=1,
                              hidden=10, wide=20)

_SDRAM = "all rules of the chip: times, banks, refreshes, data"

CASES = (
    Case("relay", lambda: Relay(8), relay_keeps_order, claim="keeps order, holds two"),
    Case("skid buffer", lambda: SkidBuffer(8), skid_keeps_order, claim="keeps order, holds one"),
    Case("streamed", lambda: Streamed(LMul(fmt=_CONFIG.path, multiplier=LMUL))),
    Case("stream memory", lambda: StreamMemory(shape=4, depth=4)),
    Case("queue", lambda: Queue(shape=8, depth=8), queue_keeps_order(8), claim="keeps order, holds what it says"),
    Case("reciprocal", lambda: Reciprocal(fmt=_CONFIG.path)),
    Case("square sum", lambda: SquareSum(fmt=_CONFIG.path, lanes=1, slots=1)),
    Case("inverse root", lambda: InverseRoot(fmt=_CONFIG.path)),
    Case("dot product", lambda: Dot(fmt=FloatFormat.parse("e4m3"), multiplier=LMUL)),
    Case("registers", lambda: Registers(_CONFIG)),
    Case("sequencer", lambda: Sequencer(_CONFIG)),
    Case("uart", lambda: Uart(divisor=4)),
    Case("uart, receiving", lambda: UartReceiver(divisor=4)),
    Case("COBS decoder", CobsDecoder),
    Case("COBS encoder", CobsEncoder),
    Case("receiver", Receiver, excuse=lambda unit: unit.restart),
    Case("executor", Executor),
    Case("replier", Replier),
    Case("mailbox", Mailbox, axi_lite_rules, claim="rules of AXI4-Lite, no answer without a request"),
    Case("loader", lambda: Loader(_CONFIG)),
    Case("tape reader", lambda: TapeReader(_CONFIG), excuse=lambda unit: unit.restart),
    Case("tape check", lambda: TapeCheck(_CONFIG), check_is_used_well),
    Case("player", lambda: Player(_CONFIG), steady("busy", "mask", "tokens", "embed_start", "embed_beats", "play_start",
                                                   "play_count")),
    Case("tape on chip", lambda: OnChipTape(_CONFIG, depth=8)),
    Case("AXI4 tape", lambda: AxiTape(data_width=8, addr_width=16, burst=4, bursts=2), axi_rules(4),
         claim="rules of AXI4, no burst over 4 KiB"),
    Case("AXI4 tape, reading", lambda: AxiTape(data_width=8, addr_width=12, burst=4, bursts=2), axi_room,
         claim="room for all that comes"),
    Case("tables", lambda: Tables(FILLED), gray_filling(FILLED), steps=12,
         claim="each entry is the sum that its octet says; none is missing"),
    Case("SDRAM tape, 100 MHz", lambda: JudgedSdram(NARROW, 100_000_000), sdram_rules, claim=_SDRAM, steps=14),
    Case("SDRAM tape, 142 MHz", lambda: JudgedSdram(NARROW, 142_000_000), sdram_rules, claim=_SDRAM, steps=14),
    Case("striped tape", lambda: StripedTape(_CONFIG, channels=2, burst=2, bursts=2)),
)

_JOINS = "joins what is proved here"
_TAKES = "takes streams and offers none, so that there is nothing to hold it to"
#: Components with streams of which nothing is claimed here, and why.
ELSEWHERE = {
    "Endpoint": _JOINS, "Machine": _JOINS, "OnChipMachine": _JOINS, "SdramMachine": _JOINS, "StripedMachine": _JOINS,
    "Datapath": _JOINS, "MatVec": _TAKES, "Parameters": _TAKES, "Sampler": _TAKES, "UartTransmitter": _TAKES,
    "Vector": _TAKES, "SdramTape": "its commands are proved, beside the chip; its beats leave a queue",
    "ProgramMachine": _JOINS, "SpramTape": "its beats leave a queue; its bench stalls both sides",
}


def prove(case: Case) -> dict[str, Any]:
    """Prove a case; how, and how long it took.

    Raises
    ------
    BuildError
        If there is a counterexample, or no Yosys.
    ValueError
        If nothing is claimed.
    """
    begun = time.monotonic()
    claim = Claim(case.make(), case.more, case.excuse)
    text  = rtlil.convert(claim.module(), "top", ports=claim.inputs, emit_src=False)
    if not claim.claimed and case.more is None:
        raise ValueError(f"Nothing is claimed of the {case.name}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.il").write_text(text)
        try:
            _sat(folder, f"-tempinduct -maxsteps {case.steps}")
            how = "induction"
        except build.BuildError:
            _sat(folder, f"-seq {case.depth}")
            how = f"{case.depth} cycles"
    return {"unit": case.name, "streams": claim.claimed, "claim": case.claim, "how": how,
            "seconds": time.monotonic() - begun}


def _sat(folder: Path, how: str) -> None:
    (folder / "prove.ys").write_text(
        f"read_rtlil top.il\nprep -flatten -top top\nmemory_map\nopt\nasync2sync\nchformal -lower\nopt_clean\n"
        f"sat -verify -prove-asserts -set-assumes {how} top\n")
    build.run_tool(build.YOSYS, ["prove.ys"], folder)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Prove all rules, or those of some units."""
    cases = [case for case in CASES if not names or case.name in names]
    if unknown := sorted(set(names) - {case.name for case in CASES}):
        raise click.UsageError(f"There is no unit {unknown[0]!r}; there are {', '.join(case.name for case in CASES)}")
    rows = []
    with Progress() as progress:
        for index, case in enumerate(cases):
            progress(case.name, index, len(cases))
            try:
                rows.append(prove(case))
            except build.BuildError as error:
                raise click.ClickException(f"Rules of the {case.name} do not hold: {error}") from error
    emit(as_json, {"proofs": rows}, table([
        ("unit", "streams", "beside their rules", "proved by", "seconds"),
        *((row["unit"], str(row["streams"]), row["claim"], row["how"], f"{row['seconds']:.1f}") for row in rows)]))


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.formal")
