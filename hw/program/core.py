"""The processor."""

from collections.abc import Sequence

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract.formats import SIGMOID_ENTRIES, FloatFormat, sigmoid_table
from terngen.hw.program import ports
from terngen.hw.program.isa import (
    ACC_BITS,
    ADDRESS_BITS,
    BINS,
    EXPONENT_BITS,
    LEADING,
    NORM_STEPS,
    OPERAND_BITS,
    STACK,
    STACK_DEPTH,
    Code,
    Condition,
    Mode,
    Unary,
    steps,
)
from terngen.hw.stream import delay

__all__ = ["Core"]

#: Bits of what goes through ports.
PORT_BITS = 32


class Core(wiring.Component):
    """Executes a program of instructions of :mod:`terngen.hw.program.isa`.

    :class:`~terngen.hw.program.interpreter.Interpreter` says what each of them does and how many cycles it takes. There
    is one adder, in front of the accumulator; whatever an instruction does is a choice of what is added::

        program -> instruction        .----------------------------.
                       |              v                            |
        memory -> M -> operand -> choice -> (+, -) A or zero -> A -+-> memory, ports
                                      ^ product, shifts, rounding -'

    Parameters
    ----------
    fmt : :class:`FloatFormat`
        That of floats.
    program : sequence of :class:`int`
        Instructions.

    Members
    -------
    address, data, write : ``Out(ADDRESS_BITS)``, ``Out(16)``, ``Out(1)``; word : ``In(16)``
        A memory with one port: what is read is there in the next cycle.
    port : ``Out(5)``, reads, writes : ``Out(1)``; given : ``In(signed(ACC_BITS))``, taken : ``Out(PORT_BITS)``
        A port of :mod:`terngen.hw.program.ports` is read or written, until `ready`.
    ready : ``In(1)``
        It is so in this cycle.
    index : ``Out(8)``
        The index ``I``.
    """

    def __init__(self, *, fmt: FloatFormat, program: Sequence[int]):
        self._fmt     = fmt
        self._program = list(program)
        super().__init__({
            "address": Out(ADDRESS_BITS),
            "data":    Out(16),
            "write":   Out(1),
            "word":    In(16),
            "port":    Out(5),
            "reads":   Out(1),
            "writes":  Out(1),
            "given":   In(signed(ACC_BITS)),
            "taken":   Out(PORT_BITS),
            "ready":   In(1),
            "index":   Out(8),
        })

    def elaborate(self, platform):
        m    = Module()
        fmt  = self._fmt
        bits = fmt.mantissa_bits
        top  = ACC_BITS - 1

        acc      = Signal(ACC_BITS)
        exponent = Signal(signed(EXPONENT_BITS))
        sign     = Signal()
        index    = Signal(8)
        end      = Signal(8)
        pointer  = Signal(ADDRESS_BITS)
        place    = Signal(OPERAND_BITS)                 # of the instruction
        depth    = Signal(range(STACK_DEPTH))
        skip     = Signal(OPERAND_BITS - 3)             # instructions that do nothing

        # An instruction is there until the next one is fetched.
        m.submodules.program = program = memory.Memory(shape=16, depth=len(self._program), init=self._program,
                                                       attrs={"rom_style": "block"})
        fetch  = program.read_port()
        going  = Signal()
        second = Signal()                               # the cycle after that of the address
        count  = Signal(range(16))                      # cycles of a code so far
        ends   = Signal()                               # its last cycle
        after  = Signal(OPERAND_BITS)
        target = Signal(OPERAND_BITS)
        code    = Signal(Code)
        operand = Signal(OPERAND_BITS)
        acts    = second & (skip == 0)
        m.d.comb += [
            Cat(operand, code).eq(fetch.data),
            after.eq(place + 1),
            target.eq(after),
            fetch.addr.eq(Mux(going, target, 0)),
            fetch.en.eq(ends | ~going),
        ]
        m.d.sync += [going.eq(1), second.eq(going & ~second | second & ~ends), count.eq(0)]
        with m.If(second & ~ends):
            m.d.sync += count.eq(count + 1)
        with m.If(ends):
            m.d.sync += place.eq(target)
            with m.If(skip != 0):
                m.d.sync += skip.eq(skip - 1)

        # The word that the operand names.
        mode     = operand[9:]
        unary    = operand[:4]
        is_unary = code == Code.UNARY
        word     = Signal(16)
        m.d.comb += [
            self.port.eq(operand),
            self.taken.eq(acc),
            self.index.eq(index),
            self.data.eq(Mux(code == Code.STH, acc[16:32], acc[:16])),
            word.eq(Mux(mode == Mode.NUMBER, operand[:9], self.word)),
        ]
        with m.If(code == Code.CALL):
            m.d.comb += [self.address.eq(STACK | depth), self.data.eq(after)]
        with m.Elif(is_unary):
            m.d.comb += self.address.eq(STACK | (depth - 1)[:len(depth)])
        with m.Elif(mode == Mode.DIRECT):
            m.d.comb += self.address.eq(operand[:9])
        with m.Elif(mode == Mode.INDEXED):
            m.d.comb += self.address.eq(Cat(index, operand[:ADDRESS_BITS - 8]))
        with m.Else():
            m.d.comb += self.address.eq(pointer)

        # Parts of a float.
        field   = word[bits:fmt.width - 1]
        present = field.any()
        whole   = Cat(word[:bits], C(1, 1)) & present.replicate(bits + 1)
        wide    = word[bits:fmt.width]

        # What is added.
        keep     = Signal()                             # to the accumulator, or else to zero
        minus    = Signal()
        addend   = Signal(ACC_BITS)
        changes  = Signal()                             # the accumulator takes the sum
        far      = ~acc[-4:].any()
        near     = ~acc[-1]
        mantissa = acc[top - bits:top]
        low      = acc[:top - bits - 1]
        up       = acc[top - bits - 1] & (mantissa[0] | low.any())
        factors  = Signal(16, name="factor_a"), Signal(16, name="factor_b")
        by_float = code == Code.MULF
        m.d.comb += [
            factors[0].eq(Mux(by_float, acc[LEADING - 15:LEADING + 1], acc[:16])),
            factors[1].eq(Mux(by_float, whole << 15 - bits, word)),
        ]
        # A multiplier is slow to answer: its product meets a register before it goes anywhere.
        product = delay(m, factors[0] * factors[1], name="product")
        carry   = Signal()
        total   = (Cat(C(1, 1), acc & keep.replicate(ACC_BITS))
                   + Cat(carry, addend ^ minus.replicate(ACC_BITS)))[1:ACC_BITS + 1]
        m.d.comb += carry.eq(minus)
        with m.If(acts & changes):
            m.d.sync += acc.eq(total)

        # The exponent.
        step = Signal(signed(EXPONENT_BITS))
        exponent_next = (exponent + step)[:EXPONENT_BITS]

        # The table, which is asked for in the cycle of the address.
        m.submodules.table = table = memory.Memory(shape=fmt.width - 1, depth=SIGMOID_ENTRIES,
                                                   init=sigmoid_table(fmt).tolist(), attrs={"rom_style": "block"})
        entry = table.read_port()
        m.d.comb += entry.addr.eq(acc)

        def last(code, unary=None):
            return count == steps(fmt, code, unary.value if unary is not None else 0) - 1

        m.d.comb += ends.eq(second)
        with m.If(acts), m.Switch(code):
            for each, value in {
                Code.LD: word, Code.LDS: word.as_signed(), Code.LDM: word[:fmt.width - 1],
                Code.ADD: word, Code.SUB: word, Code.SUBS: word.as_signed(),
                Code.ADDH: word << 16, Code.SUBH: word << 16,
                Code.AND: acc & word, Code.XOR: acc ^ word, Code.XORH: acc ^ (word << 16),
                Code.CAT: Cat(word[:8], acc), Code.MUL: product, Code.MULF: product,
                Code.LDF: whole << LEADING - bits, Code.ADDF: whole << LEADING - bits,
                Code.LDFW: Cat(word[:bits], C(1, 1)) & wide.any().replicate(bits + 1),
            }.items():
                with m.Case(each):
                    m.d.comb += [addend.eq(value), changes.eq(1)]
                    if steps(fmt, each, 0) > 1:
                        m.d.comb += [ends.eq(last(each)), changes.eq(last(each))]
                    if each in (Code.ADD, Code.SUB, Code.SUBS, Code.ADDH, Code.SUBH, Code.ADDF):
                        m.d.comb += keep.eq(1)
                    if each in (Code.SUB, Code.SUBS, Code.SUBH):
                        m.d.comb += minus.eq(1)
                    if each is Code.ADDF:
                        m.d.comb += minus.eq(sign ^ word[fmt.width - 1])
                    if each is Code.LDF:
                        m.d.sync += [sign.eq(word[fmt.width - 1]), exponent.eq(field)]
                    if each is Code.LDFW:
                        m.d.sync += [sign.eq(0), exponent.eq(wide)]
                    if each is Code.MULF:
                        m.d.comb += step.eq(field)
                        with m.If(last(each)):
                            m.d.sync += [sign.eq(sign ^ word[fmt.width - 1]), exponent.eq(exponent_next)]
            with m.Case(Code.ST, Code.STH):
                m.d.comb += self.write.eq(1)
            with m.Case(Code.ALIGN):
                m.d.comb += [ends.eq(last(Code.ALIGN)), step.eq(-1), addend.eq(acc << 1)]
                with m.If((field - exponent)[-1]):
                    m.d.comb += changes.eq(1)
                    m.d.sync += exponent.eq(exponent_next)
            with m.Case(Code.NORM):
                m.d.comb += [ends.eq(last(Code.NORM)), step.eq(-1), addend.eq(acc << 1)]
                with m.If(count == 0):
                    m.d.comb += step.eq(operand.as_signed())
                    m.d.sync += exponent.eq(exponent_next)
                with m.Elif(count <= NORM_STEPS[0]):
                    m.d.comb += [addend.eq(acc << 4), step.eq(-4), changes.eq(far)]
                    with m.If(far):
                        m.d.sync += exponent.eq(exponent_next)
                with m.Elif(near):
                    m.d.comb += changes.eq(1)
                    m.d.sync += exponent.eq(exponent_next)
            with m.Case(Code.RND):
                only = operand[0]
                m.d.comb += [
                    changes.eq(1),
                    addend.eq(Cat(mantissa, exponent.as_unsigned() & ~only.replicate(EXPONENT_BITS)).as_signed()),
                    carry.eq(up),
                ]
                with m.If(~only & near):
                    m.d.comb += [addend.eq(0), carry.eq(0)]
            with m.Case(Code.LIM):
                high  = fmt.width - 1
                broad = operand[0]
                over  = acc[high + 1:top].any() | (acc[high] & ~broad)
                under = acc[top] | ~acc[bits:top].any()
                value = Cat(acc[:high] | over.replicate(high), Mux(broad, acc[high] | over, sign))
                m.d.comb += [changes.eq(1), addend.eq(value & ~under.replicate(len(value)))]
            with m.Case(Code.IN):
                m.d.comb += [self.reads.eq(1), ends.eq(self.ready), changes.eq(self.ready), addend.eq(self.given)]
            with m.Case(Code.OUT):
                m.d.comb += [self.writes.eq(1), ends.eq(self.ready)]
                with m.Switch(operand[:5]):
                    with m.Case(ports.Out.INDEX):
                        m.d.sync += index.eq(acc)
                    with m.Case(ports.Out.END):
                        m.d.sync += end.eq(acc)
                    with m.Case(ports.Out.POINTER):
                        m.d.sync += pointer.eq(acc)
            with m.Case(Code.JMP):
                m.d.comb += target.eq(operand)
            with m.Case(Code.CALL):
                m.d.comb += [target.eq(operand), self.write.eq(1)]
                m.d.sync += depth.eq(depth + 1)
            with m.Case(Code.LOOP):
                following = (index + 1)[:8]
                m.d.sync += index.eq(following)
                with m.If(following != end):
                    m.d.comb += target.eq(operand)
            with m.Case(Code.SKIP):
                conditions = {Condition.ZERO: ~acc.any(), Condition.NEGATIVE: acc[-1], Condition.ODD: acc[0],
                              Condition.MINUS: sign}
                met = Signal()
                with m.Switch(operand[:2]):
                    for condition, value in conditions.items():
                        with m.Case(condition.value):
                            m.d.comb += met.eq(value)
                with m.If(met ^ operand[2]):
                    m.d.sync += skip.eq(operand[3:])
            with m.Case(Code.UNARY):
                with m.Switch(unary):
                    for each, value in {Unary.SHL: acc << 1, Unary.SHR: acc >> 1, Unary.SHR8: acc >> 8,
                                        Unary.GETE: exponent, Unary.TABLE: entry.data, Unary.ABS: acc}.items():
                        with m.Case(each):
                            m.d.comb += [addend.eq(value), changes.eq(1)]
                            if each is Unary.ABS:
                                m.d.comb += minus.eq(acc[-1])
                                m.d.sync += [sign.eq(acc[-1]), exponent.eq(0)]
                    with m.Case(Unary.JUMP):
                        m.d.comb += target.eq(acc)
                    with m.Case(Unary.RETURN):
                        m.d.comb += target.eq(self.word)
                        m.d.sync += depth.eq(depth - 1)
                    with m.Case(Unary.SHIFT):
                        m.d.comb += [ends.eq(last(Code.UNARY, Unary.SHIFT)), step.eq(-1), addend.eq(acc << 1)]
                        with m.If(exponent[:3].any()):
                            m.d.comb += changes.eq(1)
                            m.d.sync += exponent.eq(exponent_next)
                    with m.Case(Unary.BIN):
                        m.d.sync += pointer.eq(BINS | Cat(C(0, 1), exponent[3:7]))
        with m.If(acts & ends & (mode == Mode.POINTER) & operand[0] & (code.as_value() <= Code.ADDF.value)):
            m.d.sync += pointer.eq(pointer + 1)
        return m
