"""SDR SDRAM chips, as their data sheets describe them, and their times in cycles of a clock.

Sources: Alliance AS4C32M16SB, rev. 1.0, June 2016, table 16; ISSI IS42S16160G (42-45S83200G-16160G), AC electrical
characteristics; ESMT M12L64322A, rev. 2.3, March 2007, operating AC parameters; Etron EM638325, rev. 1.4,
October 2005, and rev. 3.2 for grade 6.
"""

import dataclasses
import math
from fractions import Fraction

__all__ = ["BURST", "CHIPS", "SdramChip", "SdramTiming"]

#: Words of a burst.
BURST = 8
#: Refreshes that may be late at most: none of a DRAM of later standards may put off more.
POSTPONED = 8
#: Time in which all rows are refreshed.
RETENTION_MS = 64
#: Refreshes between power-up and the first access; some sheets want two.
FIRST_REFRESHES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SdramChip:
    """What a data sheet says. Times are in nanoseconds.

    Parameters
    ----------
    width, rows, cols, banks : :class:`int`
        Bits of a word, rows of a bank, words of a row, banks.
    refreshes : :class:`int`
        Refreshes due in 64 ms.
    cas : dict
        Lowest clock period for each CAS latency.
    rcd, rp, ras, rc, rrd, wr, rfc : :class:`float`
        Activation to access, precharge, activation to precharge, activation to activation of the same bank and of
        another one, last data written to precharge (tDPL, tRDL), refresh.
    ras_max : :class:`float`
        Longest time that a row is open.
    power_up : :class:`float`
        Wait for the supply before the first command.
    """

    width:     int
    rows:      int
    cols:      int
    banks:     int = 4
    refreshes: int
    cas:       dict[int, float]
    rcd:       float
    rp:        float
    ras:       float
    rc:        float
    rrd:       float
    wr:        float
    rfc:       float
    ras_max:   float = 100_000
    power_up:  float = 200_000

    def __post_init__(self) -> None:
        # A bank is closed while the next one is read and the one after it opened.
        for name, lowest in (("rows", 2), ("cols", 4 * BURST), ("banks", 4)):
            value = getattr(self, name)
            if value < lowest or value & value - 1:
                raise ValueError(f"SDRAM {name} must be a power of two from {lowest}, not {value}")
        if self.width not in (8, 16, 32):
            raise ValueError(f"SDRAM width must be 8, 16 or 32 bits, not {self.width}")
        if self.cols > 1024:
            raise ValueError(f"SDRAM cols must be at most 1024, which end below A10, not {self.cols}")

    @property
    def words(self) -> int:
        """Words that it holds."""
        return self.rows * self.cols * self.banks

    def timing(self, clock_hz: int) -> "SdramTiming":
        """Its times in cycles.

        Raises
        ------
        ValueError
            If the clock is too fast for any CAS latency, or too slow for the controller.
        """
        def cycles(time: float, at_least: int = 1) -> int:
            return max(at_least, math.ceil(Fraction(str(time)) * clock_hz / 10**9))

        latencies = [cas for cas, period in sorted(self.cas.items()) if Fraction(str(period)) * clock_hz <= 10**9]
        if not latencies:
            raise ValueError(f"SDRAM clock must be at most {10**9 / min(self.cas.values()):.0f} Hz, not {clock_hz}")
        window    = RETENTION_MS * clock_hz // 1000
        postponed = min(POSTPONED, int(self.ras_max * clock_hz / 10**9 * self.refreshes / window) - 1)
        rc, rp    = cycles(self.rc), cycles(self.rp)
        timing = SdramTiming(
            # No row waits longer than it may although refreshes are late.
            interval=window // (self.refreshes + postponed + 1), postponed=postponed, cas=latencies[0],
            rcd=cycles(self.rcd), rp=rp, ras=max(cycles(self.ras, 2), rc - rp), wr=cycles(self.wr, 2),
            rfc=cycles(self.rfc, 2), mrd=2, power_up=cycles(self.power_up))
        # Of the controller: a bank is opened in cycle 3 of a burst, and closed in the next burst.
        if timing.rcd > BURST - 3 or timing.ras > BURST or cycles(self.rrd) > 3 + timing.rcd:
            raise ValueError(f"SDRAM clock must leave {BURST} cycles for a row, and {clock_hz} Hz is too fast")
        if postponed < 1 or timing.postponed * timing.rfc + 64 > timing.interval:
            raise ValueError(f"SDRAM clock must leave time between refreshes, and {clock_hz} Hz is too slow")
        return timing


@dataclasses.dataclass(frozen=True, kw_only=True)
class SdramTiming:
    """Times of a chip in cycles; those of :class:`SdramChip`, and these.

    Parameters
    ----------
    cas : :class:`int`
        CAS latency.
    mrd : :class:`int`
        From the mode register to the next command.
    interval : :class:`int`
        From the time at which one refresh is due to the next.
    postponed : :class:`int`
        Refreshes that are made together while a play goes on.
    """

    cas:       int
    rcd:       int
    rp:        int
    ras:       int
    wr:        int
    rfc:       int
    mrd:       int
    power_up:  int
    interval:  int
    postponed: int

    @property
    def pause(self) -> int:
        """Cycles that refreshing takes from a play each time: all rows are closed, and one is opened again."""
        return 1 + self.rp + self.postponed * self.rfc + self.rcd

    @property
    def share(self) -> float:
        """Share of its cycles in which the memory gives a word of a long play."""
        return 1 - self.pause / (self.postponed * self.interval)


#: Chips of boards, by name and speed grade.
CHIPS = {
    # ULX3S with 32 MB, and ULX4M.
    "IS42S16160G-7": SdramChip(width=16, rows=8192, cols=512, refreshes=8192, cas={2: 10, 3: 7},
                               rcd=15, rp=15, ras=37, rc=60, rrd=14, wr=14, rfc=60),
    # ULX3S with 64 MB.
    "AS4C32M16SB-7": SdramChip(width=16, rows=8192, cols=1024, refreshes=8192, cas={2: 10, 3: 7},
                               rcd=21, rp=21, ras=42, rc=63, rrd=14, wr=14, rfc=63),
    # Colorlight 5A-75B, i5 and i9, 8 MB: one or the other.
    "M12L64322A-7":  SdramChip(width=32, rows=2048, cols=256, refreshes=4096, cas={2: 10, 3: 7},
                               rcd=20, rp=20, ras=42, rc=63, rrd=14, wr=14, rfc=63),
    "EM638325-6":    SdramChip(width=32, rows=2048, cols=256, refreshes=4096, cas={2: 10, 3: 6},
                               rcd=18, rp=18, ras=42, rc=60, rrd=12, wr=12, rfc=60),
}
