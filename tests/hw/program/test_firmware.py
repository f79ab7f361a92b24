"""The program, on the interpreter, is the golden machine: every answer and every value inside."""

from collections import deque

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.hw.contract import bits
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Descriptor, Op, unpack_matrix, walk
from terngen.hw.program.firmware import firmware
from terngen.hw.program.interpreter import Interpreter
from terngen.hw.program.ports import In, Out
from terngen.sim.gate import CheckedTransport

SHOWN = {Out.ACC: "acc", Out.VALUE: "value", Out.STATE: "state", Out.WEIGHTED: "weighted", Out.CODED: "code",
         Out.SCALE: "scale", Out.PEAK: "peak", Out.FACTOR: "factor", Out.ROOT: "root"}


class _Waits(Exception):
    """The program waits for the host."""


class Interpreted:
    """A transport with the program behind it, and what the array would do beside."""

    def __init__(self, tape):
        self.config      = tape.config
        self.description = "interpreted"
        self.image       = np.zeros(len(tape.image), np.uint8)
        self._matrices   = {(beat, fields["length"], fields["place"]): unpack_matrix(
            tape.config, octets, fields["length"], fields["place"])
            for mark in tape.marks.values() for beat, fields, octets in walk(tape.config, tape.image, mark)
            if fields["opcode"] is Op.MATVEC}
        self._access = None
        self._answer = None
        self._place  = self._start = 0
        self._play   = deque()              # beats
        self._codes, self._front, self._sums = {}, deque(), deque()
        self._last   = None
        self._shown  = {"op": 0}
        self._events = []
        self.machine = Interpreter(tape.config.path, firmware(tape.config), read=self._read, write=self._write)
        self._run()

    def _run(self):
        try:
            while True:
                self.machine.step()
        except _Waits:
            self.machine.pc -= 1
            self.machine.cycles -= 2

    def _read(self, port):
        match In(port):
            case In.ADDRESS:
                if self._access is None:
                    raise _Waits
                return self._access[0]
            case In.DATA:
                return self._access[1]
            case In.WRITE:
                return int(self._access[2])
            case In.BEAT:
                self._beat = self._play.popleft()
                return int(self.image[2 * self._beat:2 * self._beat + 2].view("<u2")[0])
            case In.SUM:
                bank = self._sums[0] if self.busy else self._last
                return int(bank[0][self.machine.i])
            case In.TAG:
                return self._sums[0][1]
            case In.CYCLES:
                return 0
            case In.INDEX:
                return self.machine.i

    def _write(self, port, a):
        port = Out(port)
        match port:
            case Out.DONE:
                self._access = None
            case Out.ANSWER:
                self._access, self._answer = None, a & 0xFFFF_FFFF
            case Out.START:
                self._start = a & 0xFFFF_FFFF
            case Out.COUNT:
                self._play.extend(range(self._start, self._start + a))
            case Out.PLACE:
                self._place = a
            case Out.LOAD:
                self.image.view("<u2")[self._place] = a & 0xFFFF
            case Out.ROWS:
                self._rows = a
            case Out.RELEASE:
                self._release = a
            case Out.COLS:
                matrix = self._matrices[self._play[0] - 8, self._rows, a]
                codes, peak = self._front[0]
                if self._release:
                    self._front.popleft()
                assert len(codes) == a and len(self._sums) < 2
                self._sums.append((matrix.astype(int) @ np.array([codes[place] for place in range(a)]), peak))
                for _ in range(self.config.matrix_beats(self._rows, a)):
                    self._play.popleft()
            case Out.CODE:
                self._codes[self.machine.i] = (a & 0xFF ^ 0x80) - 0x80
            case Out.PUSH:
                assert len(self._front) < 2
                self._front.append((self._codes, a))
                self._codes = {}
            case Out.POP:
                self._last = self._sums.popleft()
            case Out.BUSY:
                self.busy = bool(a)
            case Out.OP:
                self._shown = {"op": a}
            case Out.ELEMENT | Out.SCALARS:
                self._events.append({**self._shown, "slot": 0, "group": self.machine.i,
                                     "scalars": int(port is Out.SCALARS)})
            case _ if port in SHOWN:
                self._shown[SHOWN[port]] = a & 0xFFFF_FFFF

    # The transport.

    def write(self, address, octets):
        for place in range(0, len(octets), 4):
            self._access = address + place, int.from_bytes(octets[place:place + 4], "little"), True
            self._run()

    def read(self, address, octets, *, timeout=None):
        words = []
        for place in range(0, octets, 4):
            self._access = address + place, 0, False
            self._run()
            words.append(self._answer)
        return np.array(words, "<u4").tobytes()

    def close(self):
        pass

    def trace(self, on=True):
        pass

    def events(self):
        found, self._events = self._events, []
        signs = {"acc": 16, "code": 8}

        def value(event, name):
            bits = signs.get(name, 0)
            word = event.get(name, 0)
            return (word & (1 << bits) - 1 ^ 1 << bits - 1) - (1 << bits - 1) if bits else word

        return {name: np.array([value(event, name) for event in found])
                for name in ("op", "slot", "group", "scalars", *SHOWN.values())}


@pytest.fixture
def tape(make_tape):
    return make_tape("tests/data/reference/tiny", preset="processor")


@pytest.mark.parametrize("wrong", [
    {"opcode": 15}, {"length": 0}, {"length": 257}, {"beats": 1}, {"opcode": Op.EMBED},
    {"opcode": Op.MATVEC, "place": 0}, {"opcode": Op.MATVEC, "place": 257, "beats": 26 * 5},
    {"opcode": Op.MATVEC, "place": 20, "beats": 9}, {"opcode": Op.MLGRU, "place": 124},
    {"opcode": Op.GATE, "weighted": 1, "beats": 4}])
def test_fault(tape, wrong):
    """A descriptor that makes no sense ends the run, and nothing goes on then."""
    device = Interpreted(tape)
    fields = {"opcode": Op.QUANTISE, "length": 5, **wrong}
    octets = bits.pack(Descriptor, **{**fields, "opcode": getattr(fields["opcode"], "value", fields["opcode"])})
    device.image[:len(octets)] = np.frombuffer(octets, np.uint8)
    for register, value in ((Reg.MASK, 1), (Reg.PLAY_COUNT, 8 + fields.get("beats", 0)), (Reg.GO, 1), (Reg.GO, 1)):
        device.write(register.value, value.to_bytes(4, "little"))
        device._play.clear()
    assert device.read(Reg.STATUS.value, 4) == (2).to_bytes(4, "little")
    assert not device.busy


def test_gate(tape):
    checked = CheckedTransport(Interpreted(tape))
    device  = Device(checked, tape)
    device.load()
    token = 1
    for step in range(2):
        device.step({0: token}, reset=[0] if step == 0 else [])
        token = int(device.results(0).tokens[0])
    assert checked.mismatches == 0
    assert checked.values_compared > 10_000
