"""A tape in block RAM."""

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.interface import source_members
from terngen.hw.memory import Queue
from terngen.hw.stream import delay

__all__ = ["OnChipTape", "banks", "parts"]

#: Words of the narrowest and of the widest block RAM that has a bit to spare for each octet.
_DEEPEST, _WIDEST = 2048, 512
#: Bits of the widest one.
_WIDTH = 36
#: Parts of a word, at most.
_PARTS = 4
#: Bits of the number of a memory that select in one cycle.
_CHOICE_BITS = 1


def banks(depth: int) -> list[int]:
    """Words of each of the memories that hold a tape, in order.

    Each is as deep as block RAMs of one shape, and the last one is what is left. So no block RAM is half empty,
    and few words lie behind each other, among which the right one is to be selected.
    """
    units = -(-depth // _WIDEST)
    sizes = [_DEEPEST] * (units // 4) + [2 * _WIDEST] * (units // 2 % 2) + [_WIDEST] * (units % 2)
    return [*sizes[:-1], depth - sum(sizes[:-1])]


def parts(width: int) -> list[int]:
    """Bits of the parts of a word, of which each has its own place on the device.

    Each but the last one fills block RAMs of every shape.
    """
    size = -(-width // (_PARTS * _WIDTH)) * _WIDTH
    return [min(size, width - start) for start in range(0, width, size)]


class _Part(wiring.Component):
    """Some of the bits of every word.

    Parameters
    ----------
    width : :class:`int`
        Bits.
    sizes : list of :class:`int`
        Words of each memory.
    init : list of :class:`int`
        Bits of the first words; the rest is zero.

    Members
    -------
    read : ``In(...)``
        A number of a memory, and an address in it.
    word : ``Out(width)``
        What is there, :attr:`LATENCY_CYCLES` later, for a register: where there are more than two memories, what is
        right is selected again behind the last one here.
    write : ``In(...)``
        An address, and which memory takes the data.
    data : ``In(width)``
        What is written.
    """

    LATENCY_CYCLES = 4

    def __init__(self, *, width, sizes, init):
        self._width, self._sizes, self._init = width, sizes, init
        address = range(max(sizes))
        super().__init__({
            "read":  In(data.StructLayout({"address": address, "bank": range(len(sizes))})),
            "word":  Out(width),
            "write": In(data.StructLayout({"address": address, "banks": len(sizes)})),
            "data":  In(width),
        })

    def elaborate(self, platform):
        m = Module()
        start, words = 0, []
        for index, size in enumerate(self._sizes):
            # No word is read while it is written, so nobody sees what a collision gives.
            m.submodules[f"bank_{index}"] = bank = memory.Memory(
                shape=self._width, depth=size, init=self._init[start:start + size], attrs={"no_rw_check": 1})
            w_port, r_port = bank.write_port(), bank.read_port()
            m.d.comb += [
                w_port.addr.eq(self.write.address),
                w_port.data.eq(self.data),
                w_port.en.eq(self.write.banks[index]),
                r_port.addr.eq(self.read.address),
            ]
            # A block RAM is slow to answer: its word meets a register, which is its own, before it goes anywhere. And
            # it may be far: another one is the end of the way.
            words.append(delay(m, r_port.data, 2, name=f"answer_{index}"))
            start += size
        # By a number and not by masks, which would take more logic.
        number   = delay(m, self.read.bank, 3, name="number")
        few      = 1 << _CHOICE_BITS
        selected = [delay(m, Array(words[first:first + few])[number[:_CHOICE_BITS]], name=f"selected_{first}")
                    for first in range(0, len(words), few)]
        m.d.comb += self.word.eq(Array(selected)[delay(m, number[_CHOICE_BITS:], name="of_which")])
        return m


class OnChipTape(wiring.Component):
    """Plays a tape out of block RAM.

    The first beat comes :attr:`LATENCY_CYCLES` after its request, then one comes in each cycle, also
    from one request to the next. Beats beyond `depth` have no meaning, and neither has a beat that is
    loaded while it is played or in the cycle before its request; writing beyond `depth` does nothing.

    The memories lie all over the device, and no wire reaches all of them in a cycle. So a word is cut into parts. An
    address goes from part to part, in a register for each, and what a part answers waits for those behind it, in
    registers on its way. The last part has it when the one before has it, from a register of its own::

        play -> place -> address -----> address -----> address     address
                            |              |              |           |
                          part           part           part        part
                            '-> o -> o -> o '-> o -> o ->  '-> o ->    '-> o -> word -> queue -> beats

    Beats that are written go the same way. Nothing that waits reaches the memories: what is read always finds room in
    the queue.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    depth : :class:`int`
        Beats that the memory holds.
    init : iterable of :class:`int`
        First beats; the rest is zero.

    Members
    -------
    play : ``In(stream.Signature(Play))``
        Requests.
    beats : ``Out(stream.Signature(config.beat_bits))``
        What was asked for, in order.
    load : ``In(stream.Signature(load_layout(config)))``
        Writes; one is taken in each cycle.
    """

    #: Beats that were read and not taken, at most: more than there are cycles from an address to a beat.
    HELD = 16
    #: Cycles from a place to its beat in front of the queue.
    _READ = _PARTS + _Part.LATENCY_CYCLES
    LATENCY_CYCLES = 1 + _READ + Queue.LATENCY_CYCLES

    def __init__(self, config: Config, *, depth: int, init=()):
        if not isinstance(depth, int) or not 1 <= depth <= 1 << 32:
            raise ValueError(f"Tape depth must be from 1 to 2**32 beats, not {depth!r}")
        self._config = config
        self._depth  = depth
        self._init   = list(init)
        if len(self._init) > depth:
            raise ValueError(f"Tape must have at most {depth} beats, not {len(self._init)}")
        super().__init__(source_members(config))

    def elaborate(self, platform):
        m = Module()

        place = Signal(range(max(2, self._depth)))
        left  = Signal(32)
        busy  = Signal()                    # a beat is left
        last  = Signal()                    # it is the only one
        held  = Signal(range(self.HELD + 1))
        read  = Signal()
        taken = self.beats.valid & self.beats.ready
        m.d.comb += [
            read.eq(busy & ~held[-1]),      # there are fewer than HELD, a power of two
            self.play.ready.eq(~busy | (last & read)),
            self.load.ready.eq(1),
        ]
        m.d.sync += held.eq(held + read - taken)
        with m.If(read):
            m.d.sync += [place.eq(place + 1), left.eq(left - 1), last.eq(left == 2), busy.eq(~last)]
        with m.If(self.play.valid & self.play.ready):
            count = self.play.payload.count
            m.d.sync += [place.eq(self.play.payload.start), left.eq(count), last.eq(count == 1), busy.eq(count != 0)]

        # An address is low bits in a bank, and the bank; where they are written, a flag for each bank.
        sizes  = banks(self._depth)
        low    = slice(ceil_log2(max(sizes)))
        loaded = delay(m, self.load.payload, name="loaded")
        takes  = delay(m, self.load.valid & (self.load.payload.address < self._depth), name="takes")
        places = Cat(place[low], _number(_banks_of(place, sizes)))
        where  = delay(m, loaded.address[low], name="where")
        flags  = delay(m, Cat(flag & takes for flag in _banks_of(loaded.address, sizes)), name="flags")
        beat   = delay(m, loaded.data, name="beat")
        first, words = 0, []
        for index, bits in enumerate(parts(self._config.beat_bits)):
            m.submodules[f"part_{index}"] = part = _Part(
                width=bits, sizes=sizes, init=[word >> first & (1 << bits) - 1 for word in self._init])
            if index < _PARTS - 1:
                before = places, where
                places, where, flags, beat = (delay(m, each, name=f"{name}_{index}") for name, each in (
                    ("places", places), ("where", where), ("flags", flags), ("beat", beat)))
            else:
                places, where = (_twin(m, each) for each in before)
            m.d.comb += [part.read.eq(places), part.write.eq(Cat(where, flags)), part.data.eq(beat)]
            words.append(delay(m, part.word, max(_PARTS - 1 - index, 1), name=f"word_{index}"))
            beat   = beat[bits:]
            first += bits

        m.submodules.queue = queue = Queue(shape=self._config.beat_bits, depth=self.HELD)
        wiring.connect(m, queue.o, wiring.flipped(self.beats))
        m.d.comb += [
            queue.i.valid.eq(delay(m, read, self._READ, reset=True, name="valid")),
            queue.i.payload.eq(Cat(words)),
        ]
        return m


def _twin(m, value):
    """A register that is not taken for another one of the same value, and left out, because at first it is its own."""
    twin = Signal(len(value), init=-1, reset_less=True)
    m.d.sync += twin.eq(value)
    return twin


def _banks_of(address, sizes):
    """Whether a beat is in each of the banks. Each begins at a multiple of its size."""
    start, flags = 0, []
    for size in sizes:
        bits = ceil_log2(size)
        flags.append(address[bits:] == start >> bits)
        start += size
    return flags


def _number(flags):
    """Which of the flags is set."""
    return Cat(Cat(flag for index, flag in enumerate(flags) if index >> bit & 1).any()
               for bit in range(ceil_log2(len(flags))))
