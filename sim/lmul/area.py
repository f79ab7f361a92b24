"""What L-Mul costs beside an exact multiplier of the same format without DSP blocks.

Counted in cells of ECP5 and Xilinx 7 and in gates of two inputs, and by the rules of the paper (Luo and Sun, arXiv
2410.00907, section 2.3.2).
"""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amaranth import C, Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from terngen.hw import build
from terngen.hw.contract.formats import EXACT, LMUL, FloatFormat, Multiplier
from terngen.hw.units.dot import Dot
from terngen.hw.units.literal import LiteralLMul
from terngen.hw.units.multiply import Multiply
from terngen.sim.gates import Gates

__all__ = ["FORMATS", "NAMES", "PAPER", "UNITS", "array_gates", "gates", "measure", "paper_gates", "written_gates"]

#: Formats that are compared, and what others call them.
FORMATS = tuple(FloatFormat.parse(name) for name in ("e4m3", "e5m2", "e6m9", "e8m7", "e5m10", "e6m11"))
NAMES   = {"e4m3": "fp8", "e5m2": "fp8", "e8m7": "bf16", "e5m10": "fp16", "e6m11": "path"}

#: What is compared, by name; and what a whole dot product takes, whose product is an L-Mul.
UNITS = {
    "lmul":          lambda fmt: Multiply(fmt=fmt, multiplier=LMUL),
    "lmul-unbiased": lambda fmt: Multiply(fmt=fmt, multiplier=Multiplier("lmul-unbiased")),
    "literal":       lambda fmt: LiteralLMul(fmt=fmt, multiplier=LMUL),
    EXACT.policy:    lambda fmt: Multiply(fmt=fmt, multiplier=EXACT),
    "dot":           lambda fmt: Dot(fmt=fmt, multiplier=LMUL),
}


_SEEDS = (1, 2, 3)


def measure(formats: Iterable[FloatFormat], units: Iterable[str] = tuple(UNITS), *, pnr: bool,
            cache: Path | None) -> list[dict[str, Any]]:
    """Cells, gates and clock of each unit in each format; the clock is the median over three seeds of the placer.

    Raises
    ------
    BuildError
        If a tool is missing, or fails.
    """
    rows = []
    for fmt in formats:
        for name in units:
            make = UNITS[name]
            unit = make(fmt)
            ecp5 = build.synthesise(unit, "ecp5", dsp=False, cache=cache)
            xc7  = build.synthesise(make(fmt), "xc7", dsp=False, cache=cache)
            assert not ecp5.dsps and not xc7.dsps
            row = {"format": str(fmt), "unit": name, "latency": unit.LATENCY, "ecp5_luts": ecp5.luts,
                   "ecp5_ffs": ecp5.ffs, "xc7_luts": xc7.luts, "gates": Gates(make(fmt)).total}
            if pnr:
                clocks = [build.place(make(fmt), dsp=False, seed=seed, cache=cache).mhz for seed in _SEEDS]
                row["ecp5_mhz"] = round(statistics.median(clocks), 1)
            rows.append(row)
    return rows


# The paper's way of counting.

#: Gates of each operation that the paper states, a product and an L-Mul, by format.
PAPER = {"e4m3": (325, 157), "e5m2": (296, 157), "e5m10": (584, 256)}

#: By the paper a half adder is AND and XOR, a full adder two of each and an OR, and a XOR is four NAND.
_XOR, _HALF, _FULL = 4, 5, 11


def _adder(bits: int) -> int:
    return _HALF + (bits - 1) * _FULL


def paper_gates(fmt: FloatFormat) -> tuple[int, int]:
    """Gates of a product and of an L-Mul by what gives the figures that the paper states for formats of 8 bits.

    A product: a XOR for the sign, three 8-bit adders (exponents, offset, rounding of the exponent), and
    ``(j + 1)**2`` AND, 3 half adders and ``2 * j - 2`` full adders for the mantissas of j bits. An L-Mul: a XOR, an
    adder for exponent and mantissa, and an 8-bit adder for the offset.
    """
    j = fmt.mantissa_bits
    mantissas = (j + 1)**2 + 3 * _HALF + (2 * j - 2) * _FULL
    return _XOR + 3 * _adder(8) + mantissas, _XOR + _adder(fmt.exponent_bits + j) + _adder(8)


def written_gates(fmt: FloatFormat) -> tuple[int, int]:
    """The same with what the paper's text says of exponents of i bits: an adder of i bits for them, and i half adders
    to round them."""
    product, lmul = paper_gates(fmt)
    return product - 2 * _adder(8) + _adder(fmt.exponent_bits) + fmt.exponent_bits * _HALF, lmul


def array_gates(fmt: FloatFormat) -> tuple[int, int]:
    """The same with a complete array multiplier, which has n half adders and ``n * (n - 2)`` full adders for n bits."""
    product, lmul = written_gates(fmt)
    j, n = fmt.mantissa_bits, fmt.mantissa_bits + 1
    return product - 3 * _HALF - (2 * j - 2) * _FULL + n * _HALF + n * (n - 2) * _FULL, lmul


class _Bare(wiring.Component):
    """What the paper counts: no zero, nothing below or above the format, no register; and a product is cut, not
    rounded."""

    def __init__(self, fmt: FloatFormat, *, exact: bool):
        self._fmt, self._exact = fmt, exact
        super().__init__({"a": In(fmt.width), "b": In(fmt.width), "o": Out(fmt.width)})

    def elaborate(self, platform: Any) -> Module:
        m    = Module()
        fmt  = self._fmt
        bits, high = fmt.mantissa_bits, fmt.mantissa_bits + fmt.exponent_bits
        if self._exact:
            product  = Cat(self.a[:bits], C(1, 1)) * Cat(self.b[:bits], C(1, 1))
            exponent = self.a[bits:high] + self.b[bits:high] - fmt.bias + product[-1]
            total    = Cat(Mux(product[-1], product[bits + 1:-1], product[bits:-2]), exponent[:fmt.exponent_bits])
        else:
            total = self.a[:high] + self.b[:high] + (LMUL.offset(fmt) - fmt.one)
        m.d.comb += self.o.eq(Cat(total[:high], self.a[high] ^ self.b[high]))
        return m


def gates(formats: Iterable[FloatFormat]) -> list[dict[str, Any]]:
    """Gates of a product and of an L-Mul: as stated, by each way to count, and as Yosys makes them.

    ``weighted`` is the count of Yosys with XOR as four gates, as in the paper; ``bare`` is without what the paper does
    not count.

    Raises
    ------
    BuildError
        If there is no Yosys, or it fails.
    """
    rows = []
    for fmt in formats:
        ways: dict[str, Any] = {"stated": PAPER.get(str(fmt)), "rules": paper_gates(fmt), "text": written_gates(fmt),
                                "array": array_gates(fmt)}
        for way, pair in (("bare", [_Bare(fmt, exact=True), _Bare(fmt, exact=False)]),
                          ("full", [UNITS["exact"](fmt), UNITS["lmul"](fmt)])):
            made = [Gates(unit) for unit in pair]
            ways[way] = tuple(each.total for each in made)
            ways[f"{way}_weighted"] = tuple(each.total + (_XOR - 1) * each.counts["xor"] for each in made)
        rows.append({"format": str(fmt), **{way: list(pair) if pair else None for way, pair in ways.items()}})
    return rows
