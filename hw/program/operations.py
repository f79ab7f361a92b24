"""What descriptors ask for."""

from terngen.hw.contract.tape import Op
from terngen.hw.program.assembler import number, pointer, vector
from terngen.hw.program.ports import In, Out
from terngen.hw.program.routines import (
    FIRST,
    LAST,
    NEGATIVE,
    NOT_NEGATIVE,
    NOT_ZERO,
    PLUS,
    SOURCE,
    STATE,
    T0,
    T1,
    ZERO,
    Routines,
    W,
    X,
    Y,
)

__all__ = ["Operations"]


class Operations(Routines):
    """One routine for each operation but products of matrices, which the array makes."""

    def operations(self) -> None:
        self.label("Table")
        known = {op.value: op.name for op in Op if op not in (Op.EMBED, Op.MATVEC)}
        for value in range(16):
            self.jmp(known.get(value, "Fault"))

        # Without sums.
        self.label("SCAN")
        self._peak()
        self.label("Scanned")
        self.set_element("r", vector(X))
        self.call("Weigh")
        self.loop("Scanned")
        self.jmp("Invert peak")

        self.label("QUANTISE")
        self.begin()
        self.label("Quantised")
        self.product(vector(Y), "FACTOR")
        self.st("v")
        # In sixteenths of its lowest place.
        self.ldf("v")
        self.align(self.constant(self._fmt.bias - 4 << self._fmt.mantissa_bits))
        self.rnd(1)
        self.st("t")
        self.sub(number(128))
        self.skip(NEGATIVE, 2)
        self.ld(number(127))
        self.st("t")
        self.ld("t")
        self.skip(PLUS, 2)
        self.ld(number(0))
        self.sub("t")
        self.out(Out.CODE)
        self.out(Out.CODED)
        self.out(Out.ELEMENT)
        self.loop("Quantised")
        self.shows(Out.PUSH, "PEAK")
        self.jmp("Operated")

        self.label("SQUARE")
        self._first_square()
        self.begin()
        self.flag(SOURCE)
        self.branch(ZERO, "Squared T1")
        for page, name in ((X, "Squared X"), (T1, "Squared T1")):
            self.label(name)
            self.product(vector(page), vector(W))
            self.call("Square")
            self.loop(name)
            if page == X:
                self.jmp("Squared")
        self.label("Squared")
        self.flag(LAST)
        self.branch(NOT_ZERO, "Operated")
        self.jmp("Take root")

        # With sums.
        def drain(op: Op) -> None:
            self.label(op.name)
            if op is Op.STORE:
                self._first_square()
            if op in (Op.MLGRU, Op.GLU, Op.RESIDUAL):
                self._peak()
            if op is Op.MLGRU:
                self.ld("PLACE")
                self.add("LENGTH")
                self.sub(self.constant(self._config.state + 1))
                self.branch(NEGATIVE, "Fault")
                self.ld("PLACE")
                self.add(self.constant(STATE << 8))
                self.out(Out.POINTER)
            self.call("Scale")
            self.label(f"{op.name} element")

        drain(Op.GATE)
        self.call("Dequantise")
        self.skip(ZERO)
        self.xor("SIGN")
        self.st("v")
        self.call("Sigmoid")
        self.product("r", vector(W))
        self.st(vector(T0))
        self.out(Out.WEIGHTED)
        self.out(Out.ELEMENT)
        self.loop("GATE element")
        self.jmp("Sums taken")

        drain(Op.STORE)
        self.call("Dequantise")
        self.st(vector(T1))
        self.out(Out.VALUE)
        self.product("v", vector(W))
        self.call("Square")
        self.loop("STORE element")
        self.jmp("Sums taken")

        drain(Op.SILU)
        self.call("Dequantise")
        self.call("Silu")
        self.st(vector(T0))
        self.out(Out.VALUE)
        self.out(Out.ELEMENT)
        self.loop("SILU element")
        self.jmp("Sums taken")

        drain(Op.MLGRU)
        self.call("Dequantise")
        self.call("Silu")
        self.st("p")
        self.set_element("h", pointer())
        self.ld("FRESH")
        self.skip(ZERO, 2)
        self.ld(number(0))
        self.st("h")
        self.ld("h")
        self.xor("SIGN")
        self.st("q")
        self.call("Add")
        self.st("q")
        self.product(vector(T0), "q")
        self.st("q")
        self.set_element("p", "h")
        self.call("Add")
        self.st(pointer(moves=True))
        self.st("v")
        self.out(Out.STATE)
        self.call("Silu")
        self.product(vector(T1), "r")
        self.st(vector(T1))
        self.st("r")
        self.out(Out.VALUE)
        self.call("Weigh")
        self.loop("MLGRU element")
        self.jmp("Invert peak")

        drain(Op.GLU)
        self.call("Dequantise")
        self.product(vector(T0), "v")
        self.st(vector(T1))
        self.st("r")
        self.out(Out.VALUE)
        self.call("Weigh")
        self.loop("GLU element")
        self.jmp("Invert peak")

        drain(Op.RESIDUAL)
        self.call("Dequantise")
        self.st("q")
        self.set_element("p", vector(X))
        self.call("Add")
        self.st(vector(X))
        self.st("r")
        self.out(Out.VALUE)
        self.call("Weigh")
        self.loop("RESIDUAL element")
        self.jmp("Invert peak")

        drain(Op.LOGITS)
        self._logits()

        self.label("Invert peak")
        self.call("Reciprocal")
        self.out(Out.FACTOR)
        self.shows(Out.PEAK, "PEAK")
        self.flag(15)
        self.sub(number(Op.SCAN.value))
        self.branch(ZERO, "Sums taken")
        self.jmp("Operated")

    def set_element(self, name: str, operand: int | str) -> None:
        self.ld(operand)
        self.st(name)

    def _peak(self) -> None:
        self.begin()
        self.st("PEAK")

    def _first_square(self) -> None:
        """A new sum of squares, if it is one."""
        self.flag(FIRST)
        self.skip(ZERO)
        self.call("Clear squares")

    def _logits(self) -> None:
        config = self._config
        # The scales come from the routine before; the list is emptied before the first element.
        self.flag(FIRST)
        self.skip(ZERO, 8)
        self.load(0xFFFF)
        self.st("RESULT.2")
        self.st("RESULT.3")
        self.ld(self.constant(-(1 << config.acc_width - 1)))
        self.st("RESULT.4")
        self.ld(number(0))
        self.st("row")
        self.label("Logit")
        self.ld(number(0))          # the sum is not there yet
        self.in_(In.SUM)
        self.out(Out.ACC)
        self.st("t")
        self.subs("RESULT.4")
        self.sub(number(1))
        self.skip(NEGATIVE, 10)
        self.ld("row")
        self.sub("VOCAB.0")
        self.subh("VOCAB.1")
        self.skip(NOT_NEGATIVE, 6)
        self.ld("t")
        self.st("RESULT.4")
        self.ld("row")
        self.st("RESULT.2")
        self.ld(number(0))
        self.st("RESULT.3")
        self.ld("row")
        self.add(number(1))
        self.st("row")
        self.out(Out.ELEMENT)
        self.loop("Logit")
        self.lds("RESULT.4")
        self.sth("RESULT.5")
        self.set("RESULT.0", "SCALED")
        self.jmp("Sums taken")
