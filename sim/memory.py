"""How the memory behind a simulated machine behaves in time."""

import dataclasses
from fractions import Fraction
from typing import Self

from terngen.hw.boards.board import Sdram
from terngen.hw.tape.chips import CHIPS

__all__ = ["MemoryModel", "PRESETS"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """A tape memory that gives at most one beat per cycle of its own clock.

    Its clock may be slower than the machine's (`rate`): then at most `n` beats are offered in any `d`
    cycles of the machine, evenly spread. Refresh and rows count cycles of the memory, latency and
    jitter those of the machine.

    Requests are served one after the other, without a gap between them where their latency has
    passed in the meantime; four can wait. A pause stops a transfer that has not been offered yet.
    The default is a memory that always has the beat one cycle after the request.

    With several `channels` the tape is striped over as many memories behind AXI4
    (:class:`~terngen.hw.top.StripedMachine`), each with the same timing, but with a seed, a phase of
    its clock and a phase of its refresh of its own.

    Parameters
    ----------
    latency : :class:`int`
        Cycles from a request to its first beat, at least 1.
    jitter : :class:`int`
        Cycles, drawn for each request, that its latency may be longer.
    rate : :class:`fractions.Fraction`
        Cycles of the memory in a cycle of the machine, at most 1.
    row_beats : :class:`int`
        Beats of a row, which lie one after the other; zero: there are no rows. Of a striped tape a
        row has that many beats in each channel.
    row_pause : :class:`int`
        Cycles in which a row is closed and another one opened.
    refresh_period : :class:`int`
        Cycles from the start of one refresh pause to the next; zero for none.
    refresh_pause : :class:`int`
        Cycles of a refresh pause, fewer than the period.
    stall : :class:`float`
        Probability with which a transfer is held back in a cycle, drawn for each of the streams
        ``play``, ``beats`` and ``load``, or for each of the AXI4 channels; less than 1.
    channels : :class:`int`
        Memories over which the tape is striped, a power of two up to 16; 1: it is not.
    """

    latency:        int      = 1
    jitter:         int      = 0
    rate:           Fraction = Fraction(1)
    row_beats:      int      = 0
    row_pause:      int      = 0
    refresh_period: int      = 0
    refresh_pause:  int      = 0
    stall:          float    = 0.0
    channels:       int      = 1

    def __post_init__(self) -> None:
        for name, lowest in (("latency", 1), ("jitter", 0), ("row_beats", 0), ("row_pause", 0),
                             ("refresh_period", 0), ("refresh_pause", 0), ("channels", 1)):
            value = getattr(self, name)
            unit  = {"row_beats": "beats", "channels": "memories"}.get(name, "cycles")
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Memory {name} must be an integer, not {value!r}")
            if not lowest <= value < 1 << 32:
                raise ValueError(f"Memory {name} must be from {lowest} to {(1 << 32) - 1} {unit}, "
                                 f"not {value}")
        if not isinstance(self.rate, Fraction):
            raise TypeError(f"Memory rate must be a fraction, not {self.rate!r}")
        if not (0 < self.rate <= 1 and self.rate.denominator < 1 << 31):
            raise ValueError(f"Memory rate must be more than 0 and at most 1, with a denominator of "
                             f"at most {(1 << 31) - 1}, not {self.rate}")
        if self.row_pause and not self.row_beats:
            raise ValueError(f"Memory row_pause ({self.row_pause}) needs rows; give row_beats as well")
        if self.refresh_pause and not self.refresh_pause < self.refresh_period:
            raise ValueError(f"Memory refresh_pause must be less than the period "
                             f"({self.refresh_period}), not {self.refresh_pause}")
        if not 0 <= self.stall < 1:
            raise ValueError(f"Memory stall must be a probability less than 1, not {self.stall!r}")
        if self.channels not in (1, 2, 4, 8, 16):
            raise ValueError(f"Memory channels must be a power of two up to 16, not {self.channels}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The model that `text` describes, like ``latency=20,rate=15/16`` or ``sdr,row_pause=0``.

        The first part may name one of :data:`PRESETS`, or a chip behind our controller and the frequency of its clock
        in MHz, like ``sdram:IS42S16160G-7@80``; what follows changes it.

        Raises
        ------
        ValueError
            If it does not describe one; the message says why.
        """
        kinds  = {field.name: field.type for field in dataclasses.fields(cls)}
        values = {}
        for place, part in enumerate(filter(None, text.split(","))):
            name, equals, value = part.partition("=")
            if not equals and place == 0 and name in PRESETS:
                values = dataclasses.asdict(PRESETS[name])
                continue
            if not equals and place == 0 and name.startswith("sdram:"):
                values = dataclasses.asdict(cls.of_sdram(name.removeprefix("sdram:")))
                continue
            if name not in kinds:
                raise ValueError(f"Memory has no {name!r}; it has {', '.join(kinds)}, and may begin "
                                 f"with {' or '.join([*PRESETS, 'sdram:CHIP@MHZ'])}")
            try:
                values[name] = kinds[name](value)
            except (ValueError, ZeroDivisionError) as error:
                raise ValueError(f"Memory {name} must be a number, not {value!r}") from error
        return cls(**values)

    @classmethod
    def of_sdram(cls, text: str) -> Self:
        """A chip of SDRAM behind our controller, like ``IS42S16160G-7@80``; its words are the beats.

        Raises
        ------
        ValueError
            If there is no such chip, or it has no such clock.
        """
        part, _, mhz = text.partition("@")
        if part not in CHIPS:
            raise ValueError(f"There is no SDRAM {part!r}; there are {', '.join(CHIPS)}")
        try:
            clock_hz = round(float(mhz) * 1e6)
        except (OverflowError, ValueError) as error:
            raise ValueError(f"SDRAM {part} must have a clock in MHz, like sdram:{part}@80, not {mhz!r}") from error
        source = Sdram(part, delay_ns=0.0, flight=2).timing(clock_hz)
        return cls(latency=source.latency, refresh_period=source.refresh_period, refresh_pause=source.refresh_pause)

    @property
    def share(self) -> float:
        """Share of its cycles in which the memory can give a beat of a long play."""
        rows    = self.row_beats / (self.row_beats + self.row_pause) if self.row_beats else 1.0
        refresh = self.refresh_pause / self.refresh_period if self.refresh_period else 0.0
        return rows * (1 - refresh)


#: Named memories.
PRESETS = {
    # A 16-bit SDR SDRAM of 512 columns at 133 MHz, 7.5 ns (IS42S16160G-7, AS4C32M16SB-7 and their like), behind a
    # controller that opens a row only when it needs it. Row: tRP and tRCD of 20 ns each. Refresh: 8192 in 64 ms; tRP,
    # tRFC of 63 ns, tRCD. The latency of a read is tRCD, CAS latency 3, and two registers at the pins.
    "sdr": MemoryModel(latency=8, row_beats=512, row_pause=6, refresh_period=1041, refresh_pause=15),
}
