"""A tape in block RAM."""

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.memory import Queue
from terngen.hw.stream import delay
from terngen.hw.tape.loader import load_layout

__all__ = ["OnChipTape", "banks"]

#: Words of the narrowest and of the widest block RAM that has a bit to spare for each octet.
_DEEPEST, _WIDEST = 2048, 512


def banks(depth: int) -> list[int]:
    """Words of each of the memories that hold a tape, in order.

    Each is as deep as block RAMs of one shape, and the last one is what is left. So no block RAM is half empty,
    and few words lie behind each other, among which the right one is to be selected.
    """
    units = -(-depth // _WIDEST)
    sizes = [_DEEPEST] * (units // 4) + [2 * _WIDEST] * (units // 2 % 2) + [_WIDEST] * (units % 2)
    return [*sizes[:-1], depth - sum(sizes[:-1])]


class OnChipTape(wiring.Component):
    """Plays a tape out of block RAM.

    The first beat comes :attr:`LATENCY_CYCLES` after its request, then one comes in each cycle, also
    from one request to the next. Beats beyond `depth` have no meaning, and neither has a beat that is
    written while it is played; writing beyond `depth` does nothing.

    The memories lie all over the device, so there is a register before and behind every way to them, and nothing that
    waits reaches them::

        play -> place -> address of each bank -> block RAM -> its register -> selected -> queue -> beats

    What is read always finds room in the queue.

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
    #: Cycles from an address to its beat in front of the queue.
    _READ = 4
    LATENCY_CYCLES = 1 + _READ + Queue.LATENCY_CYCLES

    def __init__(self, config: Config, *, depth: int, init=()):
        if not isinstance(depth, int) or not 1 <= depth <= 1 << 32:
            raise ValueError(f"Tape depth must be from 1 to 2**32 beats, not {depth!r}")
        self._config = config
        self._depth  = depth
        self._init   = list(init)
        if len(self._init) > depth:
            raise ValueError(f"Tape must have at most {depth} beats, not {len(self._init)}")
        super().__init__({
            "play":  In(stream.Signature(Play)),
            "beats": Out(stream.Signature(config.beat_bits)),
            "load":  In(stream.Signature(load_layout(config))),
        })

    def elaborate(self, platform):
        m = Module()
        width = self._config.beat_bits

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

        start, words, chosen = 0, [], []
        load = self.load.payload
        for index, depth in enumerate(banks(self._depth)):
            # No beat is read while it is written, so nobody sees what a collision gives.
            m.submodules[f"bank_{index}"] = bank = memory.Memory(
                shape=width, depth=depth, init=self._init[start:start + depth], attrs={"no_rw_check": 1})
            w_port, r_port = bank.write_port(), bank.read_port()
            bits = ceil_log2(depth)         # a bank begins at a multiple of its size
            here = place[bits:] == start >> bits
            m.d.comb += [
                w_port.addr.eq(load.address),
                w_port.data.eq(load.data),
                w_port.en.eq(self.load.valid & (load.address[bits:] == start >> bits) & (load.address < self._depth)),
                # A register for each bank: its enable makes it differ from those of the others.
                r_port.addr.eq(delay(m, place[:bits], en=here, name=f"address_{index}")),
            ]
            # A block RAM is slow to answer: its word meets a register before it goes anywhere.
            words.append(delay(m, r_port.data, name=f"answer_{index}"))
            chosen.append(delay(m, here, 3, name=f"chosen_{index}"))
            start += depth

        m.submodules.queue = queue = Queue(shape=width, depth=self.HELD)
        wiring.connect(m, queue.o, wiring.flipped(self.beats))
        m.d.comb += [
            queue.i.valid.eq(delay(m, read, self._READ, reset=True, name="valid")),
            queue.i.payload.eq(delay(m, _selected(words, chosen), name="word")),
        ]
        return m


def _selected(words, chosen):
    """The word that is chosen, by a number and not by masks, which would take more logic."""
    number = Cat(Cat(flag for index, flag in enumerate(chosen) if index >> bit & 1).any()
                 for bit in range(ceil_log2(len(words))))
    return Array(words)[number] if len(words) > 1 else words[0]
