"""Clocks from other clocks."""

import dataclasses

from amaranth import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.hdl import Elaboratable
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer

__all__ = ["Ecp5Pll", "GowinPll", "Ice40Pll", "PllSettings", "RpllSettings"]


@dataclasses.dataclass(frozen=True)
class PllSettings:
    """Dividers of a PLL of an ECP5, with feedback from its first output.

    The phase comparator sees the input divided by `input_div`; the output has `feedback_div` times that frequency,
    and the oscillator `output_div` times that of the output. Limits: Lattice FPGA-DS-02012, sysCLOCK PLL timing.
    """

    input_div:    int
    feedback_div: int
    output_div:   int

    #: Hz. Below 10 MHz at the phase comparator jitter is worse, says the data sheet.
    COMPARATOR_HZ = (3_125_000, 400_000_000)
    OSCILLATOR_HZ = (400_000_000, 800_000_000)
    MAX_DIV       = 128

    @classmethod
    def find(cls, input_hz: int, output_hz: int) -> "PllSettings":
        """The settings with the fastest phase comparator, and an oscillator near the middle of its range.

        Raises
        ------
        ValueError
            If there are none that give exactly this frequency.
        """
        middle = sum(cls.OSCILLATOR_HZ) / 2
        found  = []
        for input_div in range(1, cls.MAX_DIV + 1):
            feedback_div, rest = divmod(output_hz * input_div, input_hz)
            if rest or not 1 <= feedback_div <= cls.MAX_DIV:
                continue
            if not cls.COMPARATOR_HZ[0] <= input_hz / input_div <= cls.COMPARATOR_HZ[1]:
                continue
            for output_div in range(1, cls.MAX_DIV + 1):
                if cls.OSCILLATOR_HZ[0] <= output_hz * output_div <= cls.OSCILLATOR_HZ[1]:
                    found.append((input_div, abs(output_hz * output_div - middle), output_div, feedback_div))
        if not found:
            raise ValueError(f"PLL of an ECP5 cannot make {output_hz} Hz of {input_hz} Hz; a multiple of "
                             f"{input_hz} Hz divided by a small number is what it makes")
        input_div, _, output_div, feedback_div = min(found)
        return cls(input_div, feedback_div, output_div)


class Ecp5Pll(Elaboratable):
    """Drives clock domain ``sync``, which its surroundings define, and has no reset.

    The clock begins when the PLL has locked, which is long after the flip-flops have their first values from the
    bitstream; until then a gate holds it (Lattice FPGA-TN-02200, dynamic clock control). So no reset has to reach all
    flip-flops in one period. **Not tried on silicon**: the gate is opened by the clock that comes in, so that it may
    happen within its setup time. If the PLL loses its lock, the clock stops, and what was worked on then is not to be
    trusted: the device has to be configured again. With `delay_ns` it also drives domain ``late``, whose edges come so
    much later, and which begins at once.

    Parameters
    ----------
    clock : :class:`Signal`
        What comes in.
    input_hz, output_hz : :class:`int`
        Frequencies.
    delay_ns : :class:`float`
        Delay of domain ``late``, less than a period; rounded to an eighth of a period of the oscillator.
    """

    RESET_LESS = True

    def __init__(self, clock, *, input_hz: int, output_hz: int, delay_ns: float | None = None):
        self._clock    = clock
        self._settings = PllSettings.find(input_hz, output_hz)
        self._late     = {} if delay_ns is None else self._phase(output_hz, delay_ns)

    def _phase(self, output_hz, delay_ns):
        """Second output: the same frequency, with edges later by whole and eighth periods of the oscillator."""
        divider = self._settings.output_div
        eighths = round(8 * delay_ns * output_hz * divider / 1e9)
        if not 0 <= eighths < 8 * divider:
            raise ValueError(f"Delay of a clock must be less than its period, {1e9 / output_hz:.2f} ns, not {delay_ns} "
                             f"ns")
        return {"p_CLKOS_ENABLE": "ENABLED", "p_CLKOS_DIV": divider, "p_CLKOS_CPHASE": divider - 1 + eighths // 8,
                "p_CLKOS_FPHASE": eighths % 8, "i_ENCLKOS": Const(0), "o_CLKOS": ClockSignal("late")}

    def elaborate(self, platform):
        m = Module()
        settings = self._settings
        early, locked, begun = Signal(), Signal(), Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_FEEDBK_PATH="CLKOP", p_CLKI_DIV=settings.input_div, p_CLKFB_DIV=settings.feedback_div,
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=settings.output_div,
            # Edges of the output at those of the input.
            p_CLKOP_CPHASE=settings.output_div - 1, p_CLKOP_FPHASE=0,
            i_CLKI=self._clock, i_CLKFB=early, i_RST=Const(0), i_STDBY=Const(0),
            i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(0), i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
            o_CLKOP=early, o_LOCK=locked, **self._late)
        m.domains.input = domain = ClockDomain(reset_less=True, local=True)
        m.d.comb += domain.clk.eq(self._clock)
        m.submodules.begun = FFSynchronizer(locked, begun, o_domain="input")
        m.submodules.gate  = Instance("DCCA", i_CLKI=early, i_CE=begun, o_CLKO=ClockSignal("sync"))
        return m


@dataclasses.dataclass(frozen=True)
class RpllSettings:
    """Dividers of an rPLL of a Gowin device: as :class:`PllSettings`.

    Limits: Gowin DS226, rPLL of the GW2AR series, grade C8/I7.
    """

    input_div:    int
    feedback_div: int
    output_div:   int

    COMPARATOR_HZ = (3_000_000, 500_000_000)
    OSCILLATOR_HZ = (500_000_000, 1_250_000_000)
    MAX_DIV       = 64
    OUTPUT_DIVS   = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)

    @classmethod
    def find(cls, input_hz: int, output_hz: int) -> "RpllSettings":
        """The settings with the fastest phase comparator, and an oscillator near the middle of its range.

        Raises
        ------
        ValueError
            If there are none that give exactly this frequency.
        """
        middle = sum(cls.OSCILLATOR_HZ) / 2
        oscillators = [(abs(output_hz * div - middle), div) for div in cls.OUTPUT_DIVS
                       if cls.OSCILLATOR_HZ[0] <= output_hz * div <= cls.OSCILLATOR_HZ[1]]
        for input_div in range(1, cls.MAX_DIV + 1):
            feedback_div, rest = divmod(output_hz * input_div, input_hz)
            in_range = cls.COMPARATOR_HZ[0] <= input_hz / input_div <= cls.COMPARATOR_HZ[1]
            if oscillators and in_range and not rest and 1 <= feedback_div <= cls.MAX_DIV:
                return cls(input_div, feedback_div, min(oscillators)[1])
        raise ValueError(f"PLL of a Gowin device cannot make {output_hz} Hz of {input_hz} Hz; a multiple of {input_hz} "
                         f"Hz divided by a small number is what it makes")


class GowinPll(Elaboratable):
    """As :class:`Ecp5Pll`, with the rPLL of a Gowin device, and a reset, which it holds until the clock is there.

    `delay_ns` is rounded to a sixteenth of a period.

    Parameters
    ----------
    clock, input_hz, output_hz, delay_ns
        As of :class:`Ecp5Pll`.
    device : :class:`str`
        As the rPLL names it, like ``GW2AR-18C``.
    """

    RESET_LESS = False

    def __init__(self, clock, *, input_hz: int, output_hz: int, delay_ns: float | None = None, device: str):
        self._clock    = clock
        self._input_hz = input_hz
        self._settings = RpllSettings.find(input_hz, output_hz)
        self._device   = device
        self._phase    = None
        if delay_ns is not None:
            self._phase = round(16 * delay_ns * output_hz / 1e9)
            if not 0 <= self._phase < 16:
                raise ValueError(f"Delay of a clock must be less than its period, {1e9 / output_hz:.2f} ns, not "
                                 f"{delay_ns} ns")

    def elaborate(self, platform):
        m = Module()
        settings = self._settings
        locked   = Signal()
        late     = {} if self._phase is None else {"o_CLKOUTP": ClockSignal("late")}
        m.submodules.pll = Instance(
            "rPLL",
            p_DEVICE=self._device, p_FCLKIN=f"{self._input_hz / 1e6:g}",
            p_DYN_IDIV_SEL="false", p_IDIV_SEL=settings.input_div - 1,
            p_DYN_FBDIV_SEL="false", p_FBDIV_SEL=settings.feedback_div - 1,
            p_DYN_ODIV_SEL="false", p_ODIV_SEL=settings.output_div,
            p_DYN_DA_EN="false", p_PSDA_SEL=f"{self._phase or 0:04b}", p_DUTYDA_SEL="1000",
            p_CLKOUT_FT_DIR=Const(1, 1), p_CLKOUTP_FT_DIR=Const(1, 1), p_CLKOUT_DLY_STEP=0, p_CLKOUTP_DLY_STEP=0,
            p_CLKFB_SEL="internal", p_CLKOUT_BYPASS="false", p_CLKOUTP_BYPASS="false", p_CLKOUTD_BYPASS="false",
            p_DYN_SDIV_SEL=2, p_CLKOUTD_SRC="CLKOUT", p_CLKOUTD3_SRC="CLKOUT",
            i_CLKIN=self._clock, i_CLKFB=Const(0), i_RESET=Const(0), i_RESET_P=Const(0), i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6), i_ODSEL=Const(0, 6), i_PSDA=Const(0, 4), i_DUTYDA=Const(0, 4), i_FDLY=Const(0, 4),
            o_CLKOUT=ClockSignal("sync"), o_LOCK=locked, **late)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m


class Ice40Pll(Elaboratable):
    """Drives clock domain ``sync``, which its surroundings define, from a pad that leads to the PLL of an iCE40.

    Its reset is held until the clock is there and block RAMs may be read, which is some microseconds after power-up.
    Limits: Lattice FPGA-TN-02052, iCE40 sysCLOCK PLL.

    Parameters
    ----------
    pad : :class:`IOPort`
        What comes in.
    input_hz, output_hz : :class:`int`
        Frequencies; the first is from 10 to 17 MHz.
    """

    #: Hz.
    OSCILLATOR_HZ = (533_000_000, 1_066_000_000)
    #: Cycles until block RAMs may be read.
    WAIT_CYCLES   = 511

    def __init__(self, pad, *, input_hz: int, output_hz: int):
        self._pad = pad
        self._settings = self.settings(input_hz, output_hz)

    @classmethod
    def settings(cls, input_hz: int, output_hz: int) -> tuple[int, int]:
        """Factor of the oscillator, and binary logarithm of what it is divided by.

        Raises
        ------
        ValueError
            If there are none that give exactly this frequency.
        """
        for output_bits in range(1, 7):
            factor, rest = divmod(output_hz << output_bits, input_hz)
            if (not rest and factor <= 128
                    and cls.OSCILLATOR_HZ[0] <= output_hz << output_bits <= cls.OSCILLATOR_HZ[1]):
                return factor, output_bits
        raise ValueError(f"PLL of an iCE40 cannot make {output_hz} Hz of {input_hz} Hz; a multiple of {input_hz} Hz "
                         f"divided by a power of two is what it makes")

    def elaborate(self, platform):
        m = Module()
        factor, output_bits = self._settings
        locked = Signal()
        waited = Signal(range(self.WAIT_CYCLES + 1))
        m.submodules.pll = Instance(
            "SB_PLL40_PAD", p_FEEDBACK_PATH="SIMPLE", p_DIVR=Const(0, 4), p_DIVF=Const(factor - 1, 7),
            p_DIVQ=Const(output_bits, 3), p_FILTER_RANGE=Const(1, 3),
            io_PACKAGEPIN=self._pad, i_RESETB=Const(1), i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=ClockSignal("sync"), o_LOCK=locked)
        m.domains.waiting = waiting = ClockDomain(reset_less=True, local=True)
        m.d.comb += waiting.clk.eq(ClockSignal("sync"))
        m.d.waiting += waited.eq(waited + (waited != self.WAIT_CYCLES))
        m.submodules.reset = ResetSynchronizer(~locked | (waited != self.WAIT_CYCLES), domain="sync")
        return m
