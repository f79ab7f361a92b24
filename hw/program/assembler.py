"""What programs are written with."""

from amaranth.lib import enum

from terngen.hw.program.isa import OPERAND_BITS, Code, Condition, Mode, Unary

__all__ = ["Assembler", "number", "pointer", "vector"]


def number(value: int) -> int:
    """Operand: a number of nine bits."""
    assert 0 <= value < 1 << 9, value
    return Mode.NUMBER.value << 9 | value


def vector(page: int) -> int:
    """Operand: element ``I`` of a vector."""
    return Mode.INDEXED.value << 9 | page


def pointer(*, moves: bool = False) -> int:
    """Operand: what ``J`` points to, which then may move on."""
    return Mode.POINTER.value << 9 | moves


class Assembler:
    """Puts a program together.

    Each :class:`Code` is a method of its name in small letters, and so is each :class:`Unary`. Operands are words by
    their name, for each of which a place is found, or what :func:`number` and its like give.
    """

    def __init__(self, variables: int) -> None:
        self._words: list[tuple[Code, int | str]] = []
        self._labels: dict[str, int]   = {}
        self._places: dict[str, int]   = {}
        self._room    = variables
        self._made    = 0
        #: Values of words that do not change, by name.
        self.constants: dict[str, int] = {}

    def __getattr__(self, name: str):
        upper = name.removesuffix("_").upper()
        if upper in Unary.__members__:
            return lambda: self._emit(Code.UNARY, Unary[upper].value)
        if upper in Code.__members__:
            return lambda operand=0: self._emit(Code[upper], operand)
        raise AttributeError(name)

    def _emit(self, code: Code, operand: int | str | enum.Enum) -> None:
        if isinstance(operand, enum.Enum):
            operand = operand.value
        elif isinstance(operand, str) and code not in (Code.JMP, Code.CALL, Code.LOOP):
            operand = self.place(operand)
        self._words.append((code, operand))

    def place(self, name: str, at: int | None = None) -> int:
        """Where a word is kept."""
        if name not in self._places:
            if at is None:
                at = len(self.constants) + self._made
                self._made += 1
                assert at < self._room, "too many words"
            self._places[name] = at
        return self._places[name]

    def constant(self, value: int) -> str | int:
        """Operand: a number of 16 bits."""
        value &= 0xFFFF
        if value < 1 << 9:
            return number(value)
        name = f"={value:04x}"
        if name not in self._places:
            self._places[name] = len(self.constants) + self._made
            self.constants[name] = value
        return name

    def label(self, name: str) -> None:
        """The next instruction has a name."""
        assert name not in self._labels, name
        self._labels[name] = len(self._words)

    def skip(self, condition: Condition, count: int = 1) -> None:
        """Skip so many instructions if the condition is met."""
        self._emit(Code.SKIP, count << 3 | condition.value)

    def branch(self, condition: Condition, target: str) -> None:
        """Jump unless the condition is met."""
        self.skip(condition)
        self.jmp(target)

    def load(self, value: int) -> None:
        """A number of up to 16 bits, without a constant."""
        if value < 1 << 9:
            self.ld(number(value))
        else:
            self.ld(number(value >> 8))
            self.cat(number(value & 0xFF))

    def address(self, label: str) -> int:
        """Place of an instruction."""
        return self._labels[label]

    def assemble(self) -> list[int]:
        """The instructions."""
        return [code.value << OPERAND_BITS
                | (self._labels[operand] if isinstance(operand, str) else operand & (1 << OPERAND_BITS) - 1)
                for code, operand in self._words]
