"""What a step takes on a machine that is run by a processor.

The program itself is executed, without numbers, which do not matter; what it waits for is found as the estimator finds
it. Of a loop two turns are made, and the others counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Op, pack_descriptor
from terngen.hw.estimate import Array, Tape
from terngen.hw.program.firmware import firmware
from terngen.hw.program.interpreter import Interpreter
from terngen.hw.program.isa import Code
from terngen.hw.program.ports import In, Out

__all__ = ["run_cycles"]


class _Timed(Interpreter):
    """The processor, with what surrounds it as far as it takes time."""

    def __init__(self, config: Config, tape: Tape, accesses: Iterable[tuple[int, int]], beats: Iterator[int],
                 matrices: Iterator[Mapping[str, Any]]) -> None:
        super().__init__(config.path, firmware(config), read=self._given, write=self._taken)
        self._tape     = tape
        self._array    = Array(config, tape)
        self._accesses = list(accesses)
        self._beats    = beats
        self._matrices = matrices
        self._start    = 0
        self._end      = 0                  # last beat of the matrix
        self._waits    = 0                  # ports that may wait, so far
        self._turns: dict[int, tuple[int, int]] = {}
        self._begun    = False              # codes have been written that are not complete
        #: Cycles in which a run began and ended.
        self.begin = self.end = -1

    @property
    def _now(self) -> int:
        return self.cycles - 1

    def _until(self, cycle: int) -> None:
        self.cycles += max(0, cycle - self._now)

    def _execute(self, code: Code, operand: int) -> None:
        super()._execute(code, operand)
        if code is not Code.LOOP or self.pc != operand:
            return
        before = self._turns.get(operand)
        self._turns[operand] = self.cycles, self._waits
        if before is not None and before[1] == self._waits:
            self.cycles += ((self.n - self.i) % 256 - 1) * (self.cycles - before[0])
            self.i = (self.n - 1) % 256
            del self._turns[operand]

    def _given(self, port: int) -> int:
        match In(port):
            case In.ADDRESS:
                return self._accesses[0][0]
            case In.DATA:
                return self._accesses[0][1]
            case In.WRITE:
                return 1
            case In.BEAT:
                self._waits += 1
                self._until(self._tape.take(1, self._now))
                return next(self._beats)
            case In.TAG:
                self._until(self._array.ready)
        return 0

    def _taken(self, port: int, value: int) -> None:
        match Out(port):
            case Out.DONE:
                self._accesses.pop(0)
            case Out.START:
                self._start = value
            case Out.COUNT:
                self._tape.request(self._now + 1, self._start, value)
            case Out.COLS:
                self._until(self._array.accepts(self._now))
                self._end = self._array.multiply(self._now, next(self._matrices))
            case Out.TAKEN:
                self._until(self._end + 1)
            case Out.CODE if not self._begun:
                self._begun = True
                self._until(self._array.free)
            case Out.PUSH:
                self._begun = False
                self._array.push(self._now)
            case Out.POP:
                self._array.pop(self._now)
            case Out.BUSY if value:
                self.begin = self._now
            case Out.BUSY if self.begin >= 0:
                self.end = self._now


def run_cycles(config: Config, tape: Tape, descriptors: Iterable[Mapping[str, Any]], *, token: int | None, hidden: int,
               embedding: tuple[int, int], start: int, count: int) -> int:
    """Cycles of a step, see :func:`terngen.hw.estimate.step`."""
    descriptors = list(descriptors)
    origin, beats = embedding if token is not None else (0, 0)
    accesses = {
        Reg.MASK.value: 1, Reg.HIDDEN.value: hidden, Reg.VOCAB.value: 1, Reg.STEPS.value: 1,
        Reg.EMBED_START.value: origin, Reg.EMBED_BEATS.value: beats, Reg.PLAY_START.value: start,
        Reg.PLAY_COUNT.value: count, regs.token_address(0): token or 0, Reg.GO.value: 1,
    }

    def words() -> Iterator[int]:
        yield from [0] * beats
        for fields in descriptors:
            known = {name: value for name, value in fields.items() if name not in ("scale", "weight")}
            yield from np.frombuffer(pack_descriptor(config, **known), "<u2").tolist()
            if fields["opcode"] is not Op.MATVEC:
                yield from [0] * fields["beats"]

    processor = _Timed(config, tape, accesses.items(), words(),
                       iter([fields for fields in descriptors if fields["opcode"] is Op.MATVEC]))
    while processor.end < 0:
        processor.step()
    return processor.end - processor.begin
