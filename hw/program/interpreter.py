"""The processor in Python: what each instruction does, and how many cycles it takes."""

from collections.abc import Callable, Sequence

from terngen.hw.contract.formats import FloatFormat, sigmoid_table
from terngen.hw.program.isa import (
    ACC_BITS,
    BINS,
    LEADING,
    NORM_STEPS,
    OPERAND_BITS,
    Code,
    Condition,
    Mode,
    Unary,
    steps,
)

__all__ = ["Interpreter"]

_ALL = (1 << ACC_BITS) - 1
_TOP = ACC_BITS - 1


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


class Interpreter:
    """Executes a program.

    Parameters
    ----------
    fmt : :class:`FloatFormat`
        That of floats.
    program : sequence of :class:`int`
        Instructions.
    read : callable
        What a port gives, by its number.
    write : callable
        Takes what goes to a port, by its number.
    """

    def __init__(self, fmt: FloatFormat, program: Sequence[int], *, read: Callable[[int], int],
                 write: Callable[[int, int], None]) -> None:
        self.memory  = [0] * (1 << 14)
        self.a = self.e = self.s = self.i = self.n = self.j = self.pc = 0
        #: Cycles that were taken.
        self.cycles  = 0
        self._fmt    = fmt
        self._stack: list[int] = []
        self._skip   = 0
        self._read   = read
        self._write  = write
        self._table  = sigmoid_table(fmt).tolist()
        self._program = [(Code(word >> OPERAND_BITS), word & (1 << OPERAND_BITS) - 1) for word in program]

    def _address(self, operand: int) -> int:
        match Mode(operand >> 9):
            case Mode.DIRECT:
                return operand & 0x1FF
            case Mode.INDEXED:
                return (operand & 0x3F) << 8 | self.i
            case _:
                return self.j

    def _word(self, operand: int) -> int:
        return operand & 0x1FF if Mode(operand >> 9) is Mode.NUMBER else self.memory[self._address(operand)]

    def _float(self, word: int) -> tuple[int, int, int]:
        """Sign, exponent and significand."""
        bits, high = self._fmt.mantissa_bits, self._fmt.width - 1
        exponent = word >> bits & (1 << high - bits) - 1
        return word >> high & 1, exponent, (word & (1 << bits) - 1 | 1 << bits) if exponent else 0

    def step(self) -> None:
        """One instruction."""
        code, operand = self._program[self.pc]
        self.pc += 1
        self.cycles += 1
        if self._skip:
            self._skip -= 1
            self.cycles += 1
            return
        self.cycles += steps(self._fmt, code, operand)
        self._execute(code, operand)
        if (code.value <= Code.ADDF.value and Mode(operand >> 9) is Mode.POINTER and operand & 1):
            self.j += 1

    def _execute(self, code: Code, operand: int) -> None:
        fmt = self._fmt
        bits, word, a = fmt.mantissa_bits, self._word(operand), self.a
        match code:
            case Code.LD:
                a = word
            case Code.LDS:
                a = _signed(word, 16)
            case Code.LDM:
                a = word & fmt.largest
            case Code.ADD:
                a += word
            case Code.SUB:
                a -= word
            case Code.SUBS:
                a -= _signed(word, 16)
            case Code.ADDH:
                a += word << 16
            case Code.SUBH:
                a -= word << 16
            case Code.AND:
                a &= word
            case Code.XOR:
                a ^= word
            case Code.XORH:
                a ^= word << 16
            case Code.CAT:
                a = a << 8 | word & 0xFF
            case Code.MUL:
                a = (a & 0xFFFF) * word
            case Code.ST:
                self.memory[self._address(operand)] = a & 0xFFFF
            case Code.STH:
                self.memory[self._address(operand)] = a >> 16 & 0xFFFF
            case Code.LDF:
                self.s, self.e, significand = self._float(word)
                a = significand << LEADING - bits
            case Code.LDFW:
                self.s, self.e = 0, word >> bits
                a = word & (1 << bits) - 1 | 1 << bits if self.e else 0
            case Code.MULF:
                sign, exponent, significand = self._float(word)
                self.s ^= sign
                self.e += exponent
                a = (a >> LEADING - 15 & 0xFFFF) * (significand << 15 - bits)
            case Code.ALIGN:
                _, exponent, _ = self._float(word)
                for _ in range(bits + 3):
                    if self.e > exponent:
                        a, self.e = a << 1, self.e - 1
            case Code.ADDF:
                sign, _, significand = self._float(word)
                significand <<= LEADING - bits
                a += -significand if sign ^ self.s else significand
            case Code.NORM:
                self.e += _signed(operand, OPERAND_BITS)
                for places in [4] * NORM_STEPS[0] + [1] * NORM_STEPS[1]:
                    if not a >> ACC_BITS - places:
                        a, self.e = a << places, self.e - places
            case Code.RND:
                whole = a >> _TOP - bits & (1 << bits) - 1
                rest  = a & (1 << _TOP - bits) - 1
                half  = 1 << _TOP - bits - 1
                whole += rest > half or (rest == half and whole & 1)
                a = whole if operand & 1 else whole + (self.e << bits) if a >> _TOP else 0
            case Code.LIM:
                magnitude, largest = _signed(a, ACC_BITS), fmt.wide.largest if operand & 1 else fmt.largest
                a = 0 if magnitude < fmt.smallest else min(magnitude, largest) | (
                    0 if operand & 1 else self.s << fmt.width - 1)
            case Code.IN:
                a = self._read(operand)
            case Code.OUT:
                self._out(operand)
            case Code.JMP:
                self.pc = operand
            case Code.CALL:
                self._stack.append(self.pc)
                self.pc = operand
            case Code.LOOP:
                self.i = self.i + 1 & 0xFF
                if self.i != self.n:
                    self.pc = operand
            case Code.SKIP:
                met = {Condition.ZERO: a == 0, Condition.NEGATIVE: a >> _TOP != 0, Condition.ODD: a & 1 != 0,
                       Condition.MINUS: self.s != 0}[Condition(operand & 3)]
                self._skip = operand >> 3 if met != bool(operand & 4) else 0
            case Code.UNARY:
                a = self._unary(Unary(operand), a)
        self.a = a & _ALL

    def _out(self, port: int) -> None:
        from terngen.hw.program.ports import Out
        match port:
            case Out.INDEX.value:
                self.i = self.a & 0xFF
            case Out.END.value:
                self.n = self.a & 0xFF
            case Out.POINTER.value:
                self.j = self.a & 0x3FFF
            case _:
                self._write(port, self.a)

    def _unary(self, unary: Unary, a: int) -> int:
        match unary:
            case Unary.SHL:
                return a << 1
            case Unary.SHR:
                return a >> 1
            case Unary.SHR8:
                return a >> 8
            case Unary.ABS:
                self.s, self.e = a >> _TOP, 0
                return abs(_signed(a, ACC_BITS))
            case Unary.GETE:
                return self.e
            case Unary.TABLE:
                return int(self._table[a & 0x7FF])
            case Unary.JUMP:
                self.pc = a & (1 << OPERAND_BITS) - 1
            case Unary.RETURN:
                self.pc = self._stack.pop()
            case Unary.SHIFT:
                while self.e & 7:
                    a, self.e = a << 1, self.e - 1
            case Unary.BIN:
                self.j = BINS | (self.e >> 3 & 0xF) << 1
        return a
