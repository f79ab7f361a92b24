"""What all parts of the program share: where words are kept, and routines of a few instructions."""

from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.program.assembler import Assembler, number
from terngen.hw.program.isa import ACC_BITS, LEADING, Condition
from terngen.hw.program.ports import Out

__all__ = ["EVEN", "FIRST", "HISTORY", "LAST", "NEGATIVE", "NOT_NEGATIVE", "NOT_ZERO", "PIECES", "PLUS", "REGISTERS",
           "RELEASE", "Routines", "SOURCE", "STATE", "T0", "T1", "W", "WEIGHTED", "X", "Y", "ZERO"]

#: Vectors, by their pages; the history and the state have pages as well.
X, T0, T1, Y, W, HISTORY, STATE = 2, 3, 4, 5, 6, 7, 8
#: Where registers of the host begin, two words for each, and how many words of variables are below them.
REGISTERS, VARIABLES = 0x100, 0x100
#: Bits of the first beat of a descriptor.
WEIGHTED, SOURCE, FIRST, LAST, RELEASE = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
#: Beats of a descriptor.
PIECES = 8

ZERO, NEGATIVE, EVEN, PLUS = Condition.ZERO, Condition.NEGATIVE, Condition.EVEN, Condition.PLUS
NOT_ZERO, NOT_NEGATIVE     = Condition.NOT_ZERO, Condition.NOT_NEGATIVE


class Routines(Assembler):
    """Words in capitals are those of the whole machine, the others of a routine.

    Parameters
    ----------
    config : :class:`~terngen.hw.contract.config.Config`
        Sizes of the machine.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(VARIABLES)
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
                self.place(f"{register.name}.{half}", REGISTERS + register.value // 2 + half)
        for half in range(2):
            self.place(f"TOKEN.{half}", REGISTERS + regs.token_address(0) // 2 + half)
        for half in range(6):
            self.place(f"RESULT.{half}", 0x1A0 + half)

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
