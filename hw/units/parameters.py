"""Parameter vectors on their way from the tape to the vector unit."""

from amaranth import Array, C, Cat, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import PARAMETER_BITS, Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.stream import delay

__all__ = ["PUSH_CYCLES", "READ_LATENCY", "Parameters", "ParametersSignature", "group_width"]

#: Cycles from a group to its codes.
READ_LATENCY = 4
#: Cycles from the last beat of a vector to :attr:`ParametersSignature.ready`.
PUSH_CYCLES = 1


def group_width(config: Config) -> int:
    """Bits of a lane group of the wider elements."""
    return config.lanes * max(PARAMETER_BITS, config.embedding_bits)


class ParametersSignature(wiring.Signature):
    """Port of the consumer of parameters.

    Members
    -------
    ready : ``In(1)``
        A whole vector is in front. Stays so until `pop`.
    group : ``Out(group_bits)``
        Lane group to read of it.
    row : ``Out(1)``
        It is an embedding row. Must not change while a group is on its way.
    codes : ``In(ArrayLayout(path.width, lanes))``
        Its codes, ``READ_LATENCY`` cycles later.
    pop : ``Out(1)``
        The vector in front is not needed again; a group of the same cycle is still answered. Must
        only be asserted while `ready`.
    """

    def __init__(self, config: Config):
        super().__init__({
            "ready": In(1),
            "group": Out(config.group_bits),
            "row":   Out(1),
            "codes": In(data.ArrayLayout(config.path.width, config.lanes)),
            "pop":   Out(1),
        })


class Parameters(wiring.Component):
    """Holds two parameter vectors: one that the vector unit reads, one that the tape fills.

    A vector is stored in beats as it comes from the tape, so that filling runs at the speed of the
    tape, and read a lane group at a time, as often as there are slots. Parameters and elements of embedding
    rows become codes of the path format by :func:`~terngen.hw.contract.formats.convert`, which is wiring.
    Throughput is one beat and one lane group per cycle, with one cycle between vectors for the command.
    A vector is in front ``PUSH_CYCLES`` after its last beat, and is read with ``READ_LATENCY``.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    command : ``In(stream.Signature(range(beats + 1)))``
        Announces a vector of so many beats, at least 1. Taken when a bank is free.
    i : ``In(stream.Signature(config.beat_bits))``
        Its beats.
    o : ``In(ParametersSignature(config))``
        Where the parameters go.
    """

    def __init__(self, config: Config):
        self._config = config
        self._beats  = config.parameter_beats(config.wide)
        super().__init__({
            "command": In(stream.Signature(range(self._beats + 1))),
            "i":       In(stream.Signature(config.beat_bits)),
            "o":       In(ParametersSignature(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config

        # A lane group is a part of a beat, or several beats, each in a memory of its own.
        width       = group_width(config)
        side_bits   = max(0, ceil_log2(width) - ceil_log2(config.beat_bits))
        place_bits  = max(1, ceil_log2(self._beats), side_bits)
        stores      = []
        for side in range(1 << side_bits):
            # A bank is not read while it is filled.
            store = memory.Memory(shape=config.beat_bits, depth=2 << place_bits - side_bits, init=[],
                                  attrs={"no_rw_check": 1})
            m.submodules[f"words_{side}"] = store
            stores.append((store.write_port(), store.read_port()))

        # Filling.
        back   = Signal()           # bank that is filled next
        front  = Signal()           # bank that is read
        full   = Signal(2)          # whole vectors, by bank
        place  = Signal(place_bits)
        left   = Signal(range(self._beats + 1))
        some   = Signal()           # beats are to come; from a register, as the tape waits for it
        free   = Signal()
        taken  = Signal()
        m.d.comb += [
            free.eq(~full.bit_select(back, 1)),
            self.command.ready.eq(~some & free),
            self.i.ready.eq(some),
            taken.eq(self.i.valid & self.i.ready),
        ]
        for side, (write, _) in enumerate(stores):
            m.d.comb += [
                write.addr.eq(Cat(place[side_bits:], back)),
                write.data.eq(self.i.payload),
                write.en.eq(taken & (place[:side_bits] == side)),
            ]
        # Ever and again until there is one: whether a command comes is known late.
        with m.If(~some):
            m.d.sync += [left.eq(self.command.payload), place.eq(0)]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += some.eq(1)
        with m.If(taken):
            m.d.sync += left.eq(left - 1)
            m.d.sync += place.eq(place + 1)
            with m.If(left == 1):
                m.d.sync += some.eq(0)
                m.d.sync += full.bit_select(back, 1).eq(1)
                m.d.sync += back.eq(~back)

        # Reading: a beat holds several lane groups, of which one is selected after the memory. Where parameters and
        # embedding rows are of different width it holds twice as many of the narrow ones, of which two are selected
        # first.
        m.d.comb += self.o.ready.eq(full.bit_select(front, 1))
        with m.If(self.o.pop):
            m.d.sync += full.bit_select(front, 1).eq(0)
            m.d.sync += front.eq(~front)

        fmt         = config.path
        narrow      = C(0, 1)
        if config.embedding_bits < PARAMETER_BITS:
            narrow  = self.o.row
        elif config.embedding_bits > PARAMETER_BITS:
            narrow  = ~self.o.row
        group       = Mux(narrow, self.o.group >> 1, self.o.group)
        step_bits   = max(0, ceil_log2(config.beat_bits) - ceil_log2(width))
        for _, read in stores:
            m.d.comb += read.addr.eq(Cat((group >> step_bits)[:place_bits - side_bits], front))
        beat = delay(m, Cat(read.data for _, read in stores), name="beat")
        if step_bits:
            step  = delay(m, group[:step_bits], 2, name="step")
            words = Array(beat[index * width:(index + 1) * width]
                          for index in range(1 << step_bits))
            beat  = delay(m, words[step], name="selected")
        else:
            beat = delay(m, beat)

        half = delay(m, self.o.group[0], READ_LATENCY - 1, name="half")
        kinds = sorted({(PARAMETER_BITS, fmt.parameter), (config.embedding_bits, config.embedding_format)},
                       key=lambda kind: kind[0])
        for lane in range(config.lanes):
            *narrower, (bits, wider) = kinds
            code = _convert(wider, fmt, beat.word_select(lane, bits))
            for bits, source in narrower:
                word = beat.word_select(half, width // 2).word_select(lane, bits)
                code = Mux(narrow, _convert(source, fmt, word), code)
            m.d.comb += self.o.codes[lane].eq(delay(m, code, name="code"))
        return m


def _convert(source: FloatFormat, target: FloatFormat, word: Value) -> Value:
    """Computes :func:`~terngen.hw.contract.formats.convert` for a code in the lowest bits of a word."""
    mantissa = Cat(C(0, target.mantissa_bits - source.mantissa_bits), word[:source.mantissa_bits])
    exponent = word[source.mantissa_bits:source.width - 1]
    longer   = target.exponent_bits - source.exponent_bits
    biased   = Cat(exponent[:-1], (~exponent[-1]).replicate(longer), exponent[-1])
    return Mux(exponent.any(), Cat(mantissa, biased, word[source.width - 1]), 0)
