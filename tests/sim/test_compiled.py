"""Compiled Verilog and its harness, around a small component with the ports of the machine."""

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.host.errors import ToolError
from terngen.hw.contract import tape, trace
from terngen.hw.contract.config import PRESETS, Config
from terngen.sim import verilate, verilog
from terngen.sim.compiled import CompiledModel, Waveform, compile_machine, loops
from terngen.sim.memory import MemoryModel

CONFIG = Config(beat_bits=64)
MEMORIES = {
    "ideal":   MemoryModel(),
    "latency": MemoryModel(latency=20),
    "refresh": MemoryModel(latency=5, refresh_period=13, refresh_pause=4),
    "rate":    MemoryModel(rate=Fraction(3, 7), latency=9, jitter=30),
    "rows":    MemoryModel(row_beats=8, row_pause=3, refresh_period=90, refresh_pause=7),
    "stalls":  MemoryModel(latency=3, refresh_period=31, refresh_pause=4, stall=0.4),
}


#: Octet that starts a copy; others are answered with their complement.
COPY = 0xFF

#: The answer to everything once a payload that was not taken yet has been withdrawn or changed.
BROKEN = 0xEE


class StandIn(wiring.Component):
    """Answers each octet with its complement, and copies beats on request.

    ``COPY, start, count, offset`` asks the memory for `count` beats from `start` on. Each beat is
    written back `offset` beats further on, and shown as an event whose lowest bits are the beat and
    whose others are its complement, again and again. Then an octet answers: the sum of the lowest
    octets of the beats.
    """

    def __init__(self, config: Config, *, memory: bool = True, observed: bool = True):
        self.config = config
        members = {
            "link_i": In(stream.Signature(8)),
            "link_o": Out(stream.Signature(8)),
        }
        if memory:
            members |= {
                "play":  Out(stream.Signature(tape.Play)),
                "beats": In(stream.Signature(config.beat_bits)),
                "load":  Out(stream.Signature(data.StructLayout({"address": 32,
                                                                 "data": config.beat_bits}))),
            }
        if observed:
            members["trace"] = Out(wiring.Signature({
                "valid": Out(1), "event": Out(trace.event_layout(config))}))
        self.memory, self.observed = memory, observed
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        operands = [Signal(8, name=name) for name in ("start", "count", "offset")]
        start, count, offset = operands
        place, answer = Signal(32), Signal(8)
        i, o = self.link_i, self.link_o
        broken = Signal()
        for held in (i, self.beats) if self.memory else (i,):
            was_valid, was_payload = Signal(), Signal.like(held.payload)
            m.d.sync += [was_valid.eq(held.valid & ~held.ready), was_payload.eq(held.payload)]
            with m.If(was_valid & (~held.valid | (held.payload != was_payload))):
                m.d.sync += broken.eq(1)

        with m.FSM():
            with m.State("Command"):
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid):
                    m.d.sync += answer.eq(~i.payload)
                    m.next = "Answer"
                    if self.memory:
                        with m.If(i.payload == COPY):
                            m.next = "Operand 0"
            for index, operand in enumerate(operands if self.memory else ()):
                with m.State(f"Operand {index}"):
                    m.d.comb += i.ready.eq(1)
                    m.d.sync += operand.eq(i.payload)
                    with m.If(i.valid):
                        m.next = f"Operand {index + 1}" if index < 2 else "Play"
            with m.State("Answer"):
                m.d.comb += [o.valid.eq(1), o.payload.eq(Mux(broken, BROKEN, answer))]
                with m.If(o.ready):
                    m.next = "Command"
            if self.memory:
                self._copy(m, start, count, offset, place, answer)
        return m

    def _copy(self, m, start, count, offset, place, answer):
        with m.State("Play"):
            m.d.comb += [self.play.valid.eq(1), self.play.payload.start.eq(start),
                         self.play.payload.count.eq(count)]
            with m.If(self.play.ready):
                m.d.sync += [place.eq(start + offset), answer.eq(0)]
                m.next = "Copy"
        with m.State("Copy"):
            m.d.comb += [self.load.valid.eq(self.beats.valid),
                         self.load.payload.address.eq(place),
                         self.load.payload.data.eq(self.beats.payload),
                         self.beats.ready.eq(self.load.ready)]
            with m.If(self.beats.valid & self.load.ready):
                m.d.sync += [place.eq(place + 1), count.eq(count - 1),
                             answer.eq(answer + self.beats.payload[:8])]
                if self.observed:
                    width = len(self.trace.event.as_value())
                    copies = -(-width // self.config.beat_bits)
                    bits = Cat(self.beats.payload, *[~self.beats.payload] * (copies - 1))
                    m.d.comb += [self.trace.valid.eq(1), self.trace.event.eq(bits)]
            with m.If(count == 0):
                m.d.comb += self.beats.ready.eq(0)
                m.d.comb += self.load.valid.eq(0)
                m.next = "Answer"
        return m


@pytest.fixture(scope="module", params=[16, 64, 256])
def config(request):
    return Config(beat_bits=request.param, lanes=1)


@pytest.fixture(scope="module")
def library(config):
    return compile_machine(StandIn(config), config=config)


@pytest.fixture(scope="module")
def text():
    return verilog.verilog(StandIn(CONFIG))


@pytest.fixture(scope="module")
def plain(text):
    return compile_machine(text, config=CONFIG)


def copy(model, config, start, count, offset):
    """Run one copy; the answer, and the beats that it should have copied."""
    beats = np.random.default_rng(count).integers(0, 256, (count, config.beat_bytes), np.uint8)
    model.memory_write(start * config.beat_bytes, beats)
    consumed, answer = model.run(bytes([COPY, start, count, offset]), want=1, max_cycles=20_000)
    assert consumed == 4
    assert len(answer) == 1
    assert answer[0] == beats[:, 0].sum() % 256
    assert model.memory_read((start + offset) * config.beat_bytes, beats.size) == beats.tobytes()
    return beats


@pytest.mark.parametrize("stall_in, stall_out", [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4)])
def test_link(plain, stall_in, stall_out):
    model  = CompiledModel(plain, stall_in=stall_in, stall_out=stall_out, seed=3)
    octets = bytes(range(255))
    consumed, answers = model.run(octets, want=255, max_cycles=10_000)
    assert consumed == 255
    assert answers == bytes(255 - octet for octet in octets)
    counters = model.counters
    assert (counters.octets_in, counters.octets_out) == (255, 255)
    if not stall_in and not stall_out:
        assert counters.cycles == 2 * 255       # the component takes one cycle each way
    else:
        assert counters.cycles > 2.15 * 255


def test_stops(plain):
    """A batch ends after its cycles, and what it did not do is done by the next."""
    model = CompiledModel(plain)
    assert model.run(b"\x01\x02\x03", want=3, max_cycles=3) == (2, b"\xfe")
    assert model.run(b"\x03", want=2, max_cycles=10) == (1, b"\xfd\xfc")
    assert model.counters.cycles == 6
    assert model.run(max_cycles=10) == (0, b"")
    assert model.counters.cycles == 6


def test_batch_is_bounded(plain, monkeypatch):
    """Octets that do not fit into a batch wait in the machine."""
    monkeypatch.setattr(CompiledModel, "BATCH_OCTETS", 4)
    model = CompiledModel(plain)
    consumed, first = model.run(bytes(10), want=10, max_cycles=1000)
    assert (consumed, first) == (4, b"\xff" * 4)
    assert model.run(bytes(6), want=6, max_cycles=1000) == (4, b"\xff" * 4)


@pytest.mark.parametrize("memory", MEMORIES)
def test_copy(library, config, memory):
    """Beats of any width arrive in order and are written where they should, whatever stalls."""
    model = CompiledModel(library, memory=MEMORIES[memory], stall_in=0.3, stall_out=0.3, seed=5)
    for start, count, offset in [(0, 1, 1), (3, 200, 211), (7, 2, 90)]:
        copy(model, config, start, count, offset)
    counters = model.counters
    assert (counters.beats, counters.loads, counters.requests) == (203, 203, 3)


def test_requests_of_nothing(plain):
    model = CompiledModel(plain)
    assert model.run(bytes([COPY, 5, 0, 0]), want=1, max_cycles=100) == (4, b"\x00")
    copy(model, CONFIG, 0, 3, 9)


@pytest.mark.parametrize("latency", [1, 2, 17])
def test_latency(plain, latency):
    """The component waits for its beats from the cycle after the request on."""
    model = CompiledModel(plain, memory=MemoryModel(latency=latency))
    copy(model, CONFIG, 0, 50, 60)
    assert model.counters.withheld == latency - 1


def test_refresh(plain):
    """A pause of 3 cycles in 10 leaves 7 beats."""
    memory = MemoryModel(refresh_period=10, refresh_pause=3)
    model  = CompiledModel(plain, memory=memory)
    copy(model, CONFIG, 0, 210, 0)
    assert model.counters.withheld in (87, 90, 93)      # 30 periods, cut somewhere


@pytest.mark.parametrize("rate", ["1", "15/16", "3/7", "1/5"])
def test_rate(plain, rate):
    """At most n beats in any d cycles, evenly spread; all of them taken if nobody makes it wait."""
    model = CompiledModel(plain, memory=MemoryModel(rate=Fraction(rate)))
    n, d  = Fraction(rate).as_integer_ratio()
    model.memory_write(0, bytes(255 * CONFIG.beat_bytes))
    assert model.run(bytes([COPY, 0, 255, 0]), max_cycles=100) == (4, b"")
    counts = []
    while model.run(want=1, max_cycles=1) == (0, b""):
        counts.append(model.counters.beats)
    counts = np.array(counts[2:])
    counts = counts[:counts.argmax()]                   # the last beat has not been given
    assert counts[-1] - counts[0] > 200
    for window in range(1, len(counts)):
        given = counts[window:] - counts[:-window]
        assert abs(given * d - window * n).max() < d
    assert (counts[d:] - counts[:-d] == n).all()


def test_rows(plain):
    """A pause before the first beat of another row, and after a refresh none besides its own."""
    model = CompiledModel(plain, memory=MemoryModel(row_beats=16, row_pause=5))
    copy(model, CONFIG, 10, 22, 0)                      # rows 0 and 1
    assert model.counters.withheld == 2 * 5
    copy(model, CONFIG, 31, 1, 0)                       # still open
    assert model.counters.withheld == 2 * 5
    copy(model, CONFIG, 0, 1, 0)
    assert model.counters.withheld == 3 * 5
    assert model.counters.source_paused == 3 * 5


def test_share(plain):
    """A long play takes as long as the description promises."""
    memory = MemoryModel(rate=Fraction(7, 8), row_beats=16, row_pause=2, refresh_period=50, refresh_pause=5)
    model  = CompiledModel(plain, memory=memory)
    before = model.counters
    for _ in range(20):
        copy(model, CONFIG, 0, 240, 0)
    after  = model.counters
    paused = after.source_paused - before.source_paused
    idle   = after.source_idle - before.source_idle
    cycles = after.cycles - before.cycles
    # Every cycle of the memory gives a beat, is a pause, or is idle.
    assert 20 * 240 + paused + idle == pytest.approx(cycles * 7 / 8, abs=1)
    assert 20 * 240 / (cycles * 7 / 8 - idle) == pytest.approx(memory.share, rel=0.01)


def test_source_idle(plain):
    """The memory idles until it is asked, and while what it gave is not taken."""
    model = CompiledModel(plain, memory=MemoryModel(latency=4))
    copy(model, CONFIG, 0, 100, 0)
    counters = model.counters
    assert counters.source_idle == counters.cycles - 100
    assert counters.source_paused == 0


def test_jitter(plain):
    """Latencies differ, and are never longer than they may be."""
    found = set()
    for seed in range(20):
        model = CompiledModel(plain, memory=MemoryModel(latency=10, jitter=3), seed=seed)
        copy(model, CONFIG, 0, 5, 0)
        found.add(model.counters.withheld - 9)
    assert found == {0, 1, 2, 3}


def test_channels_wrong(plain):
    with pytest.raises(ValueError, match=r"^Machine has a tape in 1 memories, so memory channels must be 1, not 4$"):
        CompiledModel(plain, memory=MemoryModel(channels=4))


def test_stall_probability(plain):
    """Of 250 beats with two streams held back 1 time in 4, 250 * (1 / 0.75 - 1) are withheld."""
    model = CompiledModel(plain, memory=MemoryModel(stall=0.25), seed=1)
    for _ in range(10):
        copy(model, CONFIG, 0, 250, 0)
    # A beat waits for its own stall while the writer is ready 3 times in 4.
    assert model.counters.withheld == pytest.approx(2500 * 0.25, rel=0.15)


def test_seed(plain):
    def cycles(seed):
        model = CompiledModel(plain, memory=MemoryModel(stall=0.3), stall_in=0.3, seed=seed)
        copy(model, CONFIG, 0, 200, 200)
        return model.counters.cycles

    assert cycles(1) == cycles(1)
    assert len({cycles(seed) for seed in range(8)}) > 4


def test_models_are_separate(plain, library, config):
    """Two machines, also of two libraries, share nothing."""
    one, two = CompiledModel(plain), CompiledModel(library)
    one.memory_write(0, b"\x11" * 64)
    assert two.memory_read(0, 64) == bytes(64)
    copy(two, config, 0, 4, 10)
    assert one.counters.cycles == 0
    assert one.run(b"\x00", want=1, max_cycles=10) == (1, b"\xff")


def test_reset(plain):
    """Reset forgets what was under way, requests included, and keeps the memory."""
    model = CompiledModel(plain, memory=MemoryModel(latency=50))
    model.memory_write(0, b"\x07" * 80)
    consumed, answer = model.run(bytes([COPY, 0, 10, 20]), want=1, max_cycles=30)
    assert (consumed, answer) == (4, b"")
    model.reset()
    assert model.run(b"\x01", want=1, max_cycles=200) == (1, b"\xfe")
    assert model.counters.beats == 0
    assert model.memory_read(0, 80) == b"\x07" * 80
    copy(model, CONFIG, 40, 10, 20)


def test_trace(library, config):
    model = CompiledModel(library, memory=MEMORIES["stalls"], seed=9)
    copy(model, config, 0, 3, 10)
    assert model.take_trace().shape == (0, library.event_words)      # it was not asked for
    model.trace()
    beats = copy(model, config, 0, 100, 100)
    events = model.take_trace()
    assert events.shape == (100, library.event_words)
    octets = events.view(np.uint8)
    width  = min(config.beat_bits, trace.event_layout(config).size) // 8
    assert np.array_equal(octets[:, :width], beats[:, :width])
    assert model.counters.events == 100
    assert len(model.take_trace()) == 0
    model.trace(False)
    copy(model, config, 0, 5, 10)
    assert len(model.take_trace()) == 0


def test_replay(plain):
    """The bare simulator does again what was recorded, without a memory."""
    recorded = CompiledModel(plain, memory=MEMORIES["stalls"], stall_in=0.3, stall_out=0.3, seed=8)
    recorded.record()
    copy(recorded, CONFIG, 3, 100, 150)
    recorded.run(b"\x01\x02", want=2, max_cycles=100)
    bare = CompiledModel(plain)
    assert bare.replay(recorded) == recorded.counters.octets_out == 3
    assert bare.counters.cycles == recorded.counters.cycles
    assert bare.counters.beats == 0
    assert bare.run(b"\x01", want=1, max_cycles=10) == (1, b"\xfe")


def test_without_memory_and_trace():
    library = compile_machine(StandIn(CONFIG, memory=False, observed=False), config=CONFIG)
    assert not library.memory
    model = CompiledModel(library)
    assert model.run(b"\x01\xff", want=2, max_cycles=100) == (2, b"\xfe\x00")
    with pytest.raises(ValueError, match=r"^Machine has its memory inside; write through the link$"):
        model.memory_write(0, b"\x00")
    with pytest.raises(ValueError, match=r"^Machine has no trace port$"):
        model.trace()


def test_waveform(text, tmp_path):
    """Only the window is written, in half cycles of 5 units."""
    library = compile_machine(text, config=CONFIG, waveform=True)
    path    = tmp_path / "window.vcd"
    model   = CompiledModel(library, waveform=Waveform(path, 10, 29))
    model.run(bytes(100), want=100, max_cycles=1000)
    model.close()
    content = path.read_text()
    assert "link_i__valid" in content
    times = [int(line[1:]) for line in content.splitlines() if line.startswith("#")]
    assert times == list(range(100, 300, 5))


@pytest.mark.parametrize("path, first, last, message", [
    ("x.fst", 0, 1, r"^Waveform must be a \.vcd file, not 'x\.fst'$"),
    ("x.vcd", 5, 4, r"^Waveform must end at cycle 5 or later, not 4$"),
])
def test_waveform_wrong(path, first, last, message):
    with pytest.raises(ValueError, match=message):
        Waveform(Path(path), first, last)


def test_waveform_parse():
    assert Waveform.parse("a:b.vcd:10-20") == Waveform(Path("a:b.vcd"), 10, 20)
    with pytest.raises(ValueError, match=r"^Waveform must be written like step\.vcd:1000-2000, not 'x\.vcd'$"):
        Waveform.parse("x.vcd")


# Building.

@pytest.fixture
def cache(tmp_path, monkeypatch, plain):
    """A cache that has the runtime only, so that a build takes little time."""
    folder = tmp_path / "machines"
    folder.mkdir()
    for path in plain.path.parent.glob("verilated*.o"):
        shutil.copy(path, folder)
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path))
    return folder


def test_loops():
    """Runs of zeros from the first word on are set in a loop, other words one by one."""
    words = [*[0] * 5, 7, 0, 0]
    lines = [f"    words[{place}] = 8'h{word:02x};\n" for place, word in enumerate(words)]
    other = "    other[0] = 4'h0;\n    next[0] = 4'h0;\n"
    assert loops("".join(lines) + other) == (
        "    for (int i = 0; i <= 4; i = i + 1) words[i] = 8'h00;\n" + "".join(lines[5:]) + other)


@pytest.fixture
def without_builds(monkeypatch):
    """What would be built is an empty file."""
    def make(folder):
        (folder / "empty").touch()
        return folder / "empty"

    cached = verilate.cached
    monkeypatch.setattr(verilate, "cached", lambda name, suffix, parts, _: cached(name, suffix, parts, make))


def test_cached(text, plain, monkeypatch):
    monkeypatch.setattr(verilate, "_run", lambda *_, **__: pytest.fail("nothing should be built"))
    assert compile_machine(text, config=CONFIG).path == plain.path


def test_key(text, plain, cache, without_builds):
    """What goes into a library decides its name."""
    names = [compile_machine(text, config=CONFIG).path.name,
             compile_machine(text, config=CONFIG, optimisation="-O3").path.name,
             compile_machine(text, config=CONFIG, waveform=True).path.name,
             compile_machine(text + "\n", config=CONFIG).path.name]
    assert names[0] == plain.path.name
    assert len(set(names)) == len(names)


def test_two_builds_at_once(text, cache, tmp_path):
    """Both succeed, and no half-made file is left."""
    (tmp_path / "top.v").write_text(text)
    program = ("import sys; from terngen.sim.compiled import *; from terngen.hw.contract.config import Config;"
               "library = compile_machine(open(sys.argv[1]).read(), config=Config(), optimisation='-O0');"
               "print(CompiledModel(library).run(b'\\x00', want=1, max_cycles=9), library.path.name)")
    builds = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "top.v")], text=True,
                               stdout=subprocess.PIPE) for _ in range(2)]
    answers = [build.communicate(timeout=300)[0].split(") ") for build in builds]
    assert [answer[0] for answer in answers] == [r"(1, b'\xff'"] * 2
    assert answers[0] == answers[1]
    names = {path.name for path in cache.iterdir() if not path.name.startswith("verilated")}
    assert names == {answers[0][1].strip()}


def test_broken_verilog(text, cache):
    before = set(cache.iterdir())
    broken = text.replace("endmodule", "assign nothing = missing;\nendmodule", 1)
    with pytest.raises(ToolError, match=r"^verilator_bin must succeed, but exited with 1: .*%Error.*"):
        compile_machine(broken, config=CONFIG)
    assert set(cache.iterdir()) == before


def test_no_compiler(text, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match=r"^No C\+\+ compiler is here \(no-such-compiler\); install one "
                                        r"\(Debian and Ubuntu: apt-get install g\+\+\), or name it in CXX$"):
        compile_machine(text, config=CONFIG)
    assert ToolError.exit_code == 3


def test_no_compiler_on_path(text, monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    verilate._compiler.cache_clear()
    with pytest.raises(ToolError, match=r"^No C\+\+ compiler is here \(g\+\+, c\+\+, clang\+\+\); "):
        compile_machine(text, config=CONFIG)


def test_named_verilator_missing(text, monkeypatch):
    monkeypatch.setenv("TERNGEN_VERILATOR", "/no/such/verilator")
    with pytest.raises(ToolError, match=r"^TERNGEN_VERILATOR names '/no/such/verilator', which is not a "):
        compile_machine(text, config=CONFIG)


def test_named_verilator(monkeypatch):
    """A Verilator of one's own is asked where its runtime lies, and for its version."""
    root = verilog.verilator_root()
    monkeypatch.setenv("VERILATOR_ROOT", str(root))
    monkeypatch.setenv("TERNGEN_VERILATOR", os.fspath(root / "bin" / "verilator_bin"))
    program, folder = verilate._verilator(os.environ["TERNGEN_VERILATOR"])
    assert folder == root
    assert "built" in program.identity


@pytest.mark.parametrize("change, message", [
    (("link_i__payload", "link__payload"), r"^Machine must have the port link_i__payload; it has .*link__p"),
    (("module top(", "module other("),     r"^Verilog must have a module 'top'$"),
])
def test_ports_wrong(text, change, message):
    with pytest.raises(ValueError, match=message):
        compile_machine(text.replace(*change), config=CONFIG)


def test_config_wrong(text):
    with pytest.raises(ValueError, match=r"^Beats of the machine must have 16 bits, not 64$"):
        compile_machine(text, config=PRESETS["tiny"])


@pytest.mark.parametrize("name", ["stall_in", "stall_out"])
@pytest.mark.parametrize("value", [-0.1, 1, 2.0])
def test_stall_wrong(plain, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a probability less than 1, not {value}$"):
        CompiledModel(plain, **{name: value})


@pytest.mark.parametrize("parameters, message", [
    ({"latency": 0},         r"^Memory latency must be from 1 to 4294967295 cycles, not 0$"),
    ({"refresh_pause": 3},   r"^Memory refresh_pause must be less than the period \(0\), not 3$"),
    ({"stall": 1.0},         r"^Memory stall must be a probability less than 1, not 1\.0$"),
])
def test_memory_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        MemoryModel(**parameters)


def test_memory_parse():
    text = "latency=20,refresh_period=780,refresh_pause=9,stall=0.1"
    assert MemoryModel.parse(text) == MemoryModel(latency=20, refresh_period=780, refresh_pause=9, stall=0.1)
    assert MemoryModel.parse("") == MemoryModel()
    with pytest.raises(ValueError, match=r"^Memory has no 'delay'; it has latency, "):
        MemoryModel.parse("delay=3")
    with pytest.raises(ValueError, match=r"^Memory latency must be a number, not 'long'$"):
        MemoryModel.parse("latency=long")
