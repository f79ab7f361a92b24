"""The program of a machine whose :attr:`~terngen.hw.contract.config.Config.control` is a processor.

It answers the host as :mod:`terngen.hw.contract.regs` says, plays tapes, and does what
:mod:`terngen.sim.golden.machine` says that operations do. It takes the same time whatever the numbers are: where one of
two things is wanted, both are done, or others that take as long.
"""

import functools

from terngen.hw.contract import formats, regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Op
from terngen.hw.program.assembler import Assembler, number, pointer, vector
from terngen.hw.program.isa import ACC_BITS, BINS, LEADING, Condition
from terngen.hw.program.ports import In, Out

__all__ = ["firmware"]

#: Vectors, by their pages; the history and the state have pages as well.
X, T0, T1, Y, W, _HISTORY, _STATE = 2, 3, 4, 5, 6, 7, 8
#: Where registers of the host begin, two words for each, and how many words of variables are below them.
_REGISTERS, _VARIABLES = 0x100, 0x100
#: Bits of the first beat of a descriptor.
_WEIGHTED, _SOURCE, _FIRST, _LAST, _RELEASE = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
#: Beats of a descriptor.
_PIECES = 8

ZERO, NEGATIVE, EVEN, PLUS = Condition.ZERO, Condition.NEGATIVE, Condition.EVEN, Condition.PLUS
NOT_ZERO, NOT_NEGATIVE     = Condition.NOT_ZERO, Condition.NOT_NEGATIVE

#: What a CRC-32 is divided by, reflected.
_POLYNOMIAL = 0xEDB88320


class _Firmware(Assembler):
    """Writes the program. Words in capitals are those of the whole machine, the others of a routine."""

    def __init__(self, config: Config) -> None:
        super().__init__(_VARIABLES)
        self._config = config
        self._fmt    = config.path
        fmt, top     = config.path, ACC_BITS - 1
        # What is to be added to the exponent before the highest bit is the first of the significand.
        self._of_product = top - 30 - fmt.bias
        self._of_square  = top - 30 - 2 * fmt.bias + fmt.wide.bias
        self._of_sum     = top - LEADING
        self._of_number  = top + fmt.bias
        for register in Reg:
            for half in range(8 if register is Reg.DIGEST else 2):
                self.place(f"{register.name}.{half}", _REGISTERS + register.value // 2 + half)
        for half in range(2):
            self.place(f"TOKEN.{half}", _REGISTERS + regs.token_address(0) // 2 + half)
        for half in range(6):
            self.place(f"RESULT.{half}", 0x1A0 + half)

    def write(self) -> list[int]:
        """The program."""
        self.jmp("Boot")
        self._main()
        self._run()
        self._operations()
        self._check()
        self._arithmetic()
        self._root()
        self._boot()
        return self.assemble()

    # Small things.

    def set(self, name: str, value: int | str) -> None:
        self.ld(self.constant(value) if isinstance(value, int) else value)
        self.st(name)

    def long(self, name: str) -> None:
        """A number of two words."""
        self.ld(f"{name}.0")
        self.addh(f"{name}.1")

    def keep(self, name: str) -> None:
        """... is kept."""
        self.st(f"{name}.0")
        self.sth(f"{name}.1")

    def shows(self, port: Out, name: str) -> None:
        self.ld(name)
        self.out(port)

    def flag(self, bits: int) -> None:
        """Flags of the descriptor."""
        self.ld("PIECE.0")
        self.and_(number(bits))

    def rounds(self, offset: int) -> None:
        """The float that is in the accumulator."""
        self.norm(offset)
        self.rnd()
        self.lim()

    def product(self, a: int | str, b: int | str) -> None:
        self.ldf(a)
        self.mulf(b)
        self.rounds(self._of_product)

    def begin(self) -> None:
        """The first element."""
        self.ld(number(0))
        self.out(Out.INDEX)

    # The host.

    def _main(self) -> None:
        config = self._config
        self.label("Ignore")
        self.out(Out.DONE)
        self.label("Main")
        self.in_(In.ADDRESS)
        self.keep("address")
        self.in_(In.WRITE)
        self.branch(ZERO, "Write")

        self.ld("address.1")
        self.branch(NOT_ZERO, "Read register")
        self.sub(self.constant(regs.SUMS_BASE >> 16))
        self.branch(NEGATIVE, "Read sum")
        self.ld("address.1")
        self.sub(self.constant(regs.HISTORY_BASE >> 16))
        self.branch(NEGATIVE, "Read history")
        self.label("Nothing")
        self.ld(number(0))
        self.label("Answer")
        self.out(Out.ANSWER)
        self.jmp("Main")

        self.label("Read register")
        self.ld("address.0")
        self.sub(self.constant(0x100))
        self.branch(NEGATIVE, "Read result")
        self.ld("address.0")
        self.shr()
        self.add(self.constant(_REGISTERS))
        self.label("Pair")
        self.out(Out.POINTER)
        self.ld(pointer(moves=True))
        self.addh(pointer())
        self.jmp("Answer")
        self.label("Read result")
        self.ld("address.0")
        self.sub(self.constant(regs.RESULT_BASE))
        self.branch(NOT_NEGATIVE, "Nothing")
        self.sub(number(12))
        self.branch(NEGATIVE, "Nothing")
        self.add(number(12))
        self.shr()
        self.add(self.constant(self.place("RESULT.0")))
        self.jmp("Pair")

        self.label("Read sum")
        self.ld("address.0")
        self.shr()
        self.shr()
        self.out(Out.INDEX)
        self.ld(number(0))          # the sum is not there yet
        self.in_(In.SUM)
        self.jmp("Answer")

        self.label("Read history")
        self.ld("address.0")
        for _ in range(2 + config.slot_bits):
            self.shr()
        self.st("t")
        self.sub("DONE.0")
        self.branch(NEGATIVE, "No token")
        self.ld("t")
        self.add(self.constant(_HISTORY << 8))
        self.out(Out.POINTER)
        self.ld(pointer())
        self.sub(self.constant(0xFFFF))
        self.branch(NOT_ZERO, "No token")
        self.ld(pointer())
        self.jmp("Answer")
        self.label("No token")
        self.ld(self.constant(0xFFFF))
        self.addh(self.constant(0xFFFF))
        self.jmp("Answer")

        self.label("Write")
        self.ld("address.1")
        self.and_(self.constant(regs.TAPE_BASE >> 16))
        self.branch(ZERO, "Load")
        self.ld("address.1")
        self.branch(ZERO, "Ignore")
        for register, target in ((Reg.GO.value, "Go"), (Reg.CHECK.value, "Check"), (regs.token_address(0), "Set")):
            self.ld("address.0")
            self.sub(number(register))
            self.branch(NOT_ZERO, target)
        self.ld("address.0")
        self.sub(number(Reg.MASK.value))
        self.branch(NOT_NEGATIVE, "Ignore")
        self.sub(number(Reg.GO.value - Reg.MASK.value))
        self.branch(NEGATIVE, "Ignore")
        self.label("Set")
        self.ld("address.0")
        self.shr()
        self.add(self.constant(_REGISTERS))
        self.out(Out.POINTER)
        self.in_(In.DATA)
        self.st(pointer(moves=True))
        self.sth(pointer())
        self.jmp("Ignore")

        self.label("Load")
        for half in range(2):
            self.long("address")
            self.subh(self.constant(regs.TAPE_BASE >> 16))
            self.shr()
            self.add(number(half))
            self.out(Out.PLACE)
            self.in_(In.DATA)
            if half:
                self.shr8()
                self.shr8()
            self.out(Out.LOAD)
        self.jmp("Ignore")

    # A run.

    def _run(self) -> None:
        self.label("Go")
        self.ld("STATUS.0")
        self.branch(ZERO, "Ignore")
        self.out(Out.DONE)
        self.ld(number(1))
        self.out(Out.BUSY)
        self.ld(number(0))
        for name in ("DONE.0", "BEATS.0", "BEATS.1"):
            self.st(name)
        self.set("token", "TOKEN.0")
        self.set("FRESH", "RESET.0")

        self.label("Step")
        self.ld("MASK.0")
        self.branch(NOT_ZERO, "Nobody")
        self.ld("EMBED_BEATS.0")
        self.branch(NOT_ZERO, "Part")
        self._embed()
        self.label("Part")
        self.long("PLAY_COUNT")
        self.branch(NOT_ZERO, "Complete")
        self.keep("rest")
        self.long("PLAY_START")
        self.out(Out.START)
        self.long("PLAY_COUNT")
        self.out(Out.COUNT)
        self.long("BEATS")
        self.add("PLAY_COUNT.0")
        self.addh("PLAY_COUNT.1")
        self.keep("BEATS")
        self.jmp("Next")
        self._descriptor()

        self.label("Nobody")
        self.load(0xFFFF)
        self.jmp("Kept")
        self.label("Complete")
        self.ld("RESULT.2")
        self.label("Kept")
        self.st("token")
        self.ld("DONE.0")
        self.add(self.constant(_HISTORY << 8))
        self.out(Out.POINTER)
        self.ld("token")
        self.st(pointer())
        self.ld("DONE.0")
        self.add(number(1))
        self.st("DONE.0")
        self.set("FRESH", 0)
        # Is there another step?
        self.set("again", "MASK.0")
        self.ld("RESULT.2")
        self.addh("RESULT.3")
        self.sub("STOP.0")
        self.subh("STOP.1")
        self.skip(NOT_ZERO, 2)
        self.ld(number(0))
        self.st("again")
        self.ld("DONE.0")
        self.sub("STEPS.0")
        self.skip(NEGATIVE, 2)
        self.ld(number(0))
        self.st("again")
        self.ld("again")
        self.branch(ZERO, "Step")
        self.label("Ended")
        self.set("RESET.0", 0)
        self.out(Out.BUSY)
        self.in_(In.CYCLES)
        self.keep("CYCLES")
        self.jmp("Main")

        self.label("Fault")
        self.ld(number(2))
        self.st("STATUS.0")
        self.st("WAIT.0")
        self.out(Out.FORGET)
        self.jmp("Ended")

    def _embed(self) -> None:
        config = self._config
        self.ld("token")
        self.mul("EMBED_BEATS.0")
        self.add("EMBED_START.0")
        self.addh("EMBED_START.1")
        self.out(Out.START)
        self.ld("EMBED_BEATS.0")
        self.out(Out.COUNT)
        self.long("BEATS")
        self.add("EMBED_BEATS.0")
        self.keep("BEATS")
        self.ld("HIDDEN.0")
        self.out(Out.END)
        self.ld(number(Op.EMBED.value))
        self.out(Out.OP)
        self.out(Out.INDEX)
        self.label("Row")
        self.in_(In.BEAT)
        self.st("v")
        halves = 1 if config.embedding is None else 2
        for half in range(halves):
            if config.embedding is not None:
                self._widen(config.embedding, half)
            # With an exponent of zero the rest does not count.
            self.ldf("v")
            self.skip(NOT_ZERO, 2)
            self.ld(number(0))
            self.st("v")
            self.ld("v")
            self.st(vector(X))
            self.out(Out.VALUE)
            self.out(Out.ELEMENT)
            self.loop("Row" if half == halves - 1 else "Second")
            if half < halves - 1:
                self.jmp("Row read")
                self.label("Second")
        self.label("Row read")
        self.out(Out.SCALARS)

    def _widen(self, source: formats.FloatFormat, half: int) -> None:
        """An octet of a beat becomes a float; one with an exponent of zero stays one."""
        fmt = self._fmt
        if half == 0:
            self.ld("v")
            self.st("beat")
        self.ld("beat")
        for _ in range(half):
            self.shr8()
        self.and_(number(0xFF))
        self.st("t")
        self.and_(number(source.largest))
        for _ in range(fmt.mantissa_bits - source.mantissa_bits):
            self.shl()
        self.add(self.constant(fmt.bias - source.bias << fmt.mantissa_bits))
        self.st("v")
        self.ld("t")
        self.and_(number(source.largest + 1))
        self.skip(ZERO, 3)
        self.ld("v")
        self.add(self.constant(1 << fmt.width - 1))
        self.st("v")
        self.ld("t")
        self.and_(number(source.largest + 1 - source.smallest))
        self.skip(NOT_ZERO, 2)
        self.ld(number(0))
        self.st("v")

    def _descriptor(self) -> None:
        config = self._config
        self.label("Weighted")
        self.ld("PIECE.3")
        self.sub("LENGTH")
        self.branch(ZERO, "Fault")
        self.begin()
        self.label("Weight")
        self.in_(In.BEAT)
        self.st(vector(W))
        self.loop("Weight")
        self.jmp("Operate")

        self.label("Sums taken")
        self.shows(Out.SCALE, "SCALED")
        self.out(Out.POP)
        self.label("Operated")
        self.out(Out.SCALARS)
        self.label("Next")
        self.long("rest")
        self.branch(NOT_ZERO, "Complete")
        for piece in range(_PIECES):
            self.in_(In.BEAT)
            self.st(f"PIECE.{piece}")
        self.long("rest")
        self.sub(number(_PIECES))
        self.sub("PIECE.3")
        self.subh("PIECE.4")
        self.keep("rest")
        self.branch(NOT_NEGATIVE, "Fault")
        self.ld("PIECE.1")
        self.addh("PIECE.2")
        self.shr8()
        for _ in range(4):
            self.shr()
        self.st("PLACE")
        self.ld("PIECE.0")
        self.addh("PIECE.1")
        self.shr8()
        self.shr()
        self.shr()
        self.st("LENGTH")
        self.out(Out.END)
        self.ld("LENGTH")
        self.branch(NOT_ZERO, "Fault")
        self.sub(self.constant(max(config.wide, config.rows) + 1))
        self.branch(NEGATIVE, "Fault")
        self.flag(15)
        self.out(Out.OP)
        self.sub(number(Op.MATVEC.value))
        self.branch(NOT_ZERO, "Matrix")
        self.flag(_WEIGHTED)
        self.branch(ZERO, "Weighted")
        self.ld("PIECE.3")
        self.addh("PIECE.4")
        self.branch(ZERO, "Fault")
        self.ld("PIECE.6")
        self.addh("PIECE.7")
        self.shr8()
        self.st("t")
        self.begin()
        self.label("Constant")
        self.ld("t")
        self.st(vector(W))
        self.loop("Constant")
        self.label("Operate")
        self.flag(15)
        self.add("TABLE")
        self.jump()

        self.label("Matrix")
        self.ld("PLACE")
        self.branch(NOT_ZERO, "Fault")
        self.sub(self.constant(config.wide + 1))
        self.branch(NEGATIVE, "Fault")
        self.set("t", 0)
        self.set("u", "PLACE")
        self.label("Block")
        self.ld("t")
        self.add(number(1))
        self.st("t")
        self.ld("u")
        self.sub(number(config.block_cols))
        self.st("u")
        self.sub(number(1))
        self.branch(NEGATIVE, "Block")
        self.ld("t")
        self.mul("LENGTH")
        self.sub("PIECE.3")
        self.subh("PIECE.4")
        self.branch(ZERO, "Fault")
        self.shows(Out.ROWS, "LENGTH")
        self.flag(_RELEASE)
        self.out(Out.RELEASE)
        self.shows(Out.COLS, "PLACE")
        self.out(Out.TAKEN)
        self.jmp("Next")

    # Operations.

    def _operations(self) -> None:
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
        self.flag(_SOURCE)
        self.branch(ZERO, "Squared T1")
        for page, name in ((X, "Squared X"), (T1, "Squared T1")):
            self.label(name)
            self.product(vector(page), vector(W))
            self.call("Square")
            self.loop(name)
            if page == X:
                self.jmp("Squared")
        self.label("Squared")
        self.flag(_LAST)
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
                self.add(self.constant(_STATE << 8))
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
        self.flag(_FIRST)
        self.skip(ZERO)
        self.call("Clear squares")

    def _logits(self) -> None:
        config = self._config
        # The scales come from the routine before; the list is emptied before the first element.
        self.flag(_FIRST)
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

    # CRC-32 of a part of the tape.

    def _check(self) -> None:
        self.label("Check")
        self.out(Out.DONE)
        self.long("PLAY_START")
        self.out(Out.START)
        self.long("PLAY_COUNT")
        self.keep("rest")
        self.skip(ZERO)
        self.out(Out.COUNT)
        self.ld(self.constant(0xFFFF))
        self.st("CRC.0")
        self.st("CRC.1")
        self.ld(number(16))
        self.out(Out.END)
        self.label("Check beat")
        self.long("rest")
        self.branch(NOT_ZERO, "Checked")
        self.sub(number(1))
        self.keep("rest")
        self.begin()
        self.in_(In.BEAT)
        self.xor("CRC.0")
        self.xorh("CRC.1")
        self.label("Check bit")
        # What is divided by, shifted out of the accumulator's 32 bits: one bit of it is added.
        self.skip(EVEN, 4)
        self.xor(self.constant(_POLYNOMIAL << 1 | 1))
        self.xorh(self.constant(_POLYNOMIAL << 1 >> 16))
        self.addh(self.constant(1 << 15))
        self.addh(self.constant(1 << 15))
        self.shr()
        self.loop("Check bit")
        self.keep("CRC")
        self.jmp("Check beat")
        self.label("Checked")
        self.long("CRC")
        self.xor(self.constant(0xFFFF))
        self.xorh(self.constant(0xFFFF))
        self.keep("CRC")
        self.jmp("Main")

    # Arithmetic.

    def _arithmetic(self) -> None:
        fmt, bits = self._fmt, self._fmt.mantissa_bits

        self.label("Scale")
        self.in_(In.TAG)
        self.st("t")
        self.ld("PIECE.5")
        self.st("SCALED")
        for factor in ("t", "ROOT"):
            self.product("SCALED", factor)
            self.st("SCALED")
        self.begin()
        self.return_()

        self.label("Dequantise")
        self.in_(In.SUM)
        self.out(Out.ACC)
        self.abs()
        self.rounds(self._of_number)
        self.st("v")
        self.product("v", "SCALED")
        self.st("v")
        self.return_()

        # r * w = y, and the peak.
        self.label("Weigh")
        self.product("r", vector(W))
        self.st(vector(Y))
        self.out(Out.WEIGHTED)
        self.out(Out.ELEMENT)
        self.ldm(vector(Y))
        self.st("t")
        self.sub("PEAK")
        self.skip(NEGATIVE, 2)
        self.ld("t")
        self.st("PEAK")
        self.return_()

        # The square of what is in the accumulator.
        self.label("Square")
        self.st("v")
        self.out(Out.WEIGHTED)
        self.out(Out.ELEMENT)
        self.ldf("v")
        self.mulf("v")
        self.norm(self._of_square)
        self.rnd()
        self.lim(1)
        self.label("Accumulate")
        self.st("t")
        self.ldfw("t")
        self.shift()
        self.bin()
        self.add(pointer(moves=True))
        self.addh(pointer())
        self.sth(pointer())
        self.bin()
        self.st(pointer())
        self.return_()

        self.label("Clear squares")
        self.ld(self.constant(BINS))
        self.out(Out.POINTER)
        self.ld(number(0))
        for _ in range(2 * formats.bins(fmt)):
            self.st(pointer(moves=True))
        self.return_()

        # p + q. The larger one stands first.
        self.label("Add")
        self.ldm("q")
        self.st("t")
        self.ldm("p")
        self.sub("t")
        self.branch(NOT_NEGATIVE, "Add exchanged")
        self.ldf("p")
        self.align("q")
        self.addf("q")
        self.jmp("Added")
        self.label("Add exchanged")
        self.ldf("q")
        self.align("p")
        self.addf("p")
        self.none()
        self.label("Added")
        self.rounds(self._of_sum)
        self.return_()

        # r = v * sigmoid(v).
        self.label("Silu")
        self.call("Sigmoid")
        self.product("v", "r")
        self.st("r")
        self.return_()

        # r = sigmoid(v). The cell of magnitudes from 1 on is found from the code, of others by a shift.
        self.label("Sigmoid")
        self.ldm("v")
        self.sub("ONE")
        for _ in range(9 - bits):
            self.shl()
        self.st("t")
        self.add(self.constant(256))
        self.st("u")
        for limit, negate, start in ((512, True, 512), (1536, False, 1024)):
            self.lds("t")
            self.sub(self.constant(limit))
            self.skip(NOT_NEGATIVE if negate else NEGATIVE, 4)
            self.lds("t")
            self.shr()
            self.add(self.constant(start))
            self.st("u")
        self.ldf("v")
        self.shr8()
        self.shl()
        self.align(self.constant(fmt.bias - 10 << bits))
        self.sth("s")
        self.lds("t")
        self.skip(NOT_NEGATIVE, 2)
        self.ld("s")
        self.st("u")
        self.ld("u")
        self.table()
        self.st("s")
        self.lds("t")
        self.sub(self.constant(formats.SIGMOID_ENTRIES))
        self.skip(NEGATIVE, 2)
        self.ld(number(0))
        self.st("s")
        # One less that, if it is not negative.
        self.ld("s")
        self.add("SIGN")
        self.st("q")
        self.set_element("p", "ONE")
        self.call("Add")
        self.st("r")
        self.ldf("v")
        self.skip(PLUS, 2)
        self.ld("s")
        self.st("r")
        self.return_()

        # FACTOR = 127 / PEAK, digit by digit.
        self.label("Reciprocal")
        self.ld("PEAK")
        self.and_(self.constant(fmt.smallest - 1))
        self.add(self.constant(fmt.smallest))
        self.st("t")
        self.set("quotient", 0)
        self.set("remainder", 127)
        self.ld(number(2 * bits))
        self.out(Out.END)
        self.begin()
        self.label("Digit")
        self.ld("quotient")
        self.shl()
        self.st("quotient")
        self.ld("remainder")
        self.shl()
        self.st("remainder")
        self.sub("t")
        self.skip(NEGATIVE, 4)
        self.st("remainder")
        self.ld("quotient")
        self.add(number(1))
        self.st("quotient")
        self.loop("Digit")
        self.ld("PEAK")
        self.and_(self.constant(fmt.largest + 1 - fmt.smallest))
        self.st("t")
        self.ld("remainder")
        self.skip(ZERO)
        self.ld(number(1))
        self.st("remainder")
        self.ld("quotient")
        self.shl()
        self.add("remainder")
        self.abs()
        self.norm(ACC_BITS - 1 + 2 * fmt.bias - bits - 1)
        self.rnd()
        self.sub("t")
        self.lim()
        self.st("FACTOR")
        self.ld("t")
        self.skip(NOT_ZERO, 2)
        self.ld(number(0))
        self.st("FACTOR")
        self.ld("FACTOR")
        self.return_()

    def _root(self) -> None:
        fmt, bits = self._fmt, self._fmt.mantissa_bits
        size  = formats.root_bits(fmt)
        point = bits + 1 + size // 2
        count = formats.bins(fmt)

        self.label("Take root")
        self.ld("PIECE.5")
        self.call("Accumulate")
        # Bins are combined from the lowest to the highest; what a step leaves behind has eight bits.
        self.ld(number(0))
        for name in ("sum.0", "sum.1", "found.0", "found.1", "below", "highest"):
            self.st(name)
        self.ld(number(count))
        self.out(Out.END)
        self.begin()
        self.ld(self.constant(BINS))
        self.out(Out.POINTER)
        self.label("Combine")
        self.ld(pointer(moves=True))
        self.addh(pointer(moves=True))
        self.keep("bin")
        self.ld("sum.0")
        self.st("t")
        self.long("sum")
        self.shr8()
        self.add("bin.0")
        self.addh("bin.1")
        self.keep("sum")
        self.long("bin")
        self.skip(ZERO, 8)
        self.long("sum")
        self.keep("found")
        self.ld("t")
        self.st("below")
        self.in_(In.INDEX)
        self.st("highest")
        self.loop("Combine")
        # x, with an even exponent.
        self.long("found")
        self.cat("below")
        self.abs()
        self.norm(0)
        for _ in range((ACC_BITS - size) // 8):
            self.shr8()
        for _ in range((ACC_BITS - size) % 8):
            self.shr()
        self.keep("x")
        self.gete()
        self.st("exponent")
        self.ld("highest")
        for _ in range(3):
            self.shl()
        self.st("t")
        self.lds("exponent")
        self.add("t")
        self.sub(self.constant(16 - 8 + fmt.wide.bias + bits - (ACC_BITS - size)))
        self.st("exponent")
        self.skip(EVEN, 7)
        self.add(number(1))
        self.st("exponent")
        self.long("x")
        self.shr()
        self.keep("x")
        self.long("x")
        self.shl()
        self.add("x.0")
        self.addh("x.1")
        self.keep("triple")
        # Bit by bit.
        self.set("a.0", 1 << size - 4)
        self.set("a.1", 0)
        self.long("x")
        self.keep("b")
        self.set("root", 0)
        self.ld(number(bits + 3))
        self.out(Out.END)
        self.begin()
        self.label("Root digit")
        self.long("a")
        self.shl()
        self.shl()
        self.keep("a")
        self.sub("b.0")
        self.subh("b.1")
        self.skip(NEGATIVE, 2)
        self.keep("a")
        self.branch(NEGATIVE, "Root one")
        self.long("b")
        self.shl()
        self.sub("x.0")
        self.subh("x.1")
        self.keep("b")
        self.ld("root")
        self.shl()
        self.add(number(0))
        self.st("root")
        self.jmp("Root next")
        self.label("Root one")
        self.long("b")
        self.shl()
        self.add("triple.0")
        self.addh("triple.1")
        self.keep("b")
        self.ld("root")
        self.shl()
        self.add(number(1))
        self.st("root")
        self.none()
        self.label("Root next")
        self.loop("Root digit")
        # Half of the exponent, at its place in a code.
        self.lds("exponent")
        for _ in range(bits - 1):
            self.shl()
        self.st("exponent")
        self.ld("root")
        self.shl()
        self.add(number(1))
        self.abs()
        self.norm(ACC_BITS - 1 + fmt.bias - point - 1)
        self.rnd()
        self.subs("exponent")
        self.lim()
        self.st("ROOT")
        self.long("found")
        self.skip(NOT_ZERO, 2)
        self.ld(self.constant(fmt.largest))
        self.st("ROOT")
        self.shows(Out.ROOT, "ROOT")
        self.jmp("Operated")

    # The beginning.

    def _boot(self) -> None:
        config, fmt = self._config, self._fmt
        self.label("Boot")
        values = {
            "MAGIC.0": regs.MAGIC & 0xFFFF, "MAGIC.1": regs.MAGIC >> 16, "VERSION.0": regs.VERSION,
            "STOP.0": 0xFFFF, "STOP.1": 0xFFFF, "RESULT.2": 0xFFFF, "RESULT.3": 0xFFFF,
            "RESULT.4": -(1 << config.acc_width - 1) & 0xFFFF, "RESULT.5": 0xFFFF,
            "SIGN": 1 << fmt.width - 1, "ONE": fmt.one, "TABLE": self.address("Table"),
            **{f"DIGEST.{place // 2}": int.from_bytes(config.digest[place:place + 2], "little")
               for place in range(0, 16, 2)},
        }
        self.ld(number(0))
        self.out(Out.POINTER)
        self.out(Out.BUSY)
        self.out(Out.INDEX)
        self.out(Out.END)
        self.label("Clear")
        self.ld(number(0))
        self.st(pointer(moves=True))
        self.st(pointer(moves=True))
        self.loop("Clear")
        for name, value in self.constants.items():
            values[name] = value
        for name, value in values.items():
            self.load(value)
            self.st(name)
        self.jmp("Main")


@functools.cache
def firmware(config: Config) -> list[int]:
    """The program of a machine.

    Raises
    ------
    ValueError
        If it has no room for the buffers.
    """
    config.check_room()
    return _Firmware(config).write()
