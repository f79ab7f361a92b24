"""A tape that is striped over several memories."""

from collections.abc import Sequence

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Play
from terngen.hw.interface import source_members
from terngen.hw.tape.axi import AxiSignature, AxiTape

__all__ = ["StripedTape"]


class StripedTape(wiring.Component):
    """Plays a tape out of several memories behind AXI4 ports, all of them for the same token.

    Of each beat, memory ``c`` has the bits from ``c * width`` on, ``width = config.beat_bits /
    channels``, at the address of the beat times ``width / 8``::

        play --+--> AxiTape 0 --+--> beats
               +--> AxiTape 1 --+
               '--> ...       --'

    Each memory goes at its own pace: a queue for each evens out what lies between them, and a beat
    leaves when all of its parts are there. Throughput is one beat per cycle as promised by
    :class:`AxiTape`, of the slowest memory.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    channels : :class:`int`
        Memories; a power of two.
    addr_width, burst, bursts
        See :class:`AxiTape`.
    bases : sequence of :class:`int`
        Address of the first beat in each memory; zero by default.

    Members
    -------
    play, beats, load
        As of :class:`~terngen.hw.tape.onchip.OnChipTape`.
    axi : array of ``Out(AxiSignature(...))``
        The memories.
    error : ``Out(1)``
        A memory has answered with an error since the reset.
    """

    def __init__(self, config: Config, *, channels: int, addr_width: int = 32, burst: int = 16, bursts: int = 16,
                 bases: Sequence[int] | None = None):
        if not (isinstance(channels, int) and channels > 0 and channels & channels - 1 == 0
                and channels * 8 <= config.beat_bits):
            raise ValueError(f"Channels must be a power of two up to {config.beat_bits // 8}, the octets of a beat, "
                             f"not {channels!r}")
        bases = [0] * channels if bases is None else bases
        if len(bases) != channels:
            raise ValueError(f"Striped tape must have {channels} bases, one for each channel, not {len(bases)}")
        self._config = config
        self._width  = config.beat_bits // channels
        self._parts  = [AxiTape(data_width=self._width, addr_width=addr_width, burst=burst, bursts=bursts, base=base)
                        for base in bases]
        super().__init__({
            **source_members(config),
            "axi":   Out(AxiSignature(addr_width=addr_width, data_width=self._width)).array(channels),
            "error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        parts = self._parts
        for index, (part, port) in enumerate(zip(parts, self.axi)):
            m.submodules[f"channel_{index}"] = part
            wiring.connect(m, part.axi, wiring.flipped(port))
        m.d.comb += self.error.eq(Cat(part.error for part in parts).any())

        # A request is held here until each memory has it. None is taken while a write waits, because that
        # one came before it.
        request = Signal(Play)
        asked   = Signal()
        m.d.comb += self.play.ready.eq(~asked & ~self.load.valid)
        done = self._fork(m, "play", asked)
        with m.If(done):
            m.d.sync += asked.eq(0)
        with m.If(self.play.valid & self.play.ready):
            m.d.sync += [request.eq(self.play.payload), asked.eq(1)]
        m.d.comb += [part.play.payload.eq(request) for part in parts]

        m.d.comb += self.load.ready.eq(self._fork(m, "load", self.load.valid))
        for index, part in enumerate(parts):
            m.d.comb += [
                part.load.payload.address.eq(self.load.payload.address),
                part.load.payload.data.eq(self.load.payload.data.word_select(index, self._width)),
            ]

        m.d.comb += [
            self.beats.valid.eq(Cat(part.beats.valid for part in parts).all()),
            self.beats.payload.eq(Cat(part.beats.payload for part in parts)),
        ]
        m.d.comb += [part.beats.ready.eq(self.beats.valid & self.beats.ready) for part in parts]
        return m

    def _fork(self, m, name, valid):
        """Offer a payload to each part until it has taken it; whether all have in this cycle."""
        ports = [getattr(part, name) for part in self._parts]
        taken = Signal(len(ports), name=f"{name}_taken")        # in earlier cycles
        m.d.comb += [port.valid.eq(valid & ~taken[index]) for index, port in enumerate(ports)]
        now  = taken | Cat(port.ready for port in ports)
        done = Signal(name=f"{name}_done")
        m.d.comb += done.eq(valid & now.all())
        with m.If(done):
            m.d.sync += taken.eq(0)
        with m.Elif(valid):
            m.d.sync += taken.eq(now)
        return done
