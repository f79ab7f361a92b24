"""Area of L-Mul: ways to count, and that what is stored is what Yosys says."""

import json

import numpy as np
import pytest

from terngen.hw.contract import formats
from terngen.hw.contract.formats import LMUL, FloatFormat
from terngen.sim.gates import Gates
from terngen.sim.lmul import area

E4M3, E5M2, FP16 = (FloatFormat.parse(name) for name in ("e4m3", "e5m2", "e5m10"))


def test_paper():
    """One way to count gives every figure of the paper but that of L-Mul in 16 bits, which has a full adder more."""
    assert area.paper_gates(E4M3) == area.PAPER["e4m3"]
    assert area.paper_gates(E5M2) == area.PAPER["e5m2"]
    assert area.paper_gates(FP16) == (584, 245)
    assert area.PAPER["e5m10"] == (584, 245 + 11)


def test_text():
    """By the words: XOR, adders of i and 8 bits, mantissas, and i half adders."""
    assert area.written_gates(E4M3)[0] == 4 + (5 + 3 * 11) + (5 + 7 * 11) + (16 + 3 * 5 + 4 * 11) + 4 * 5
    assert area.array_gates(E4M3)[0] == 4 + (5 + 3 * 11) + (5 + 7 * 11) + (16 + 4 * 5 + 8 * 11) + 4 * 5


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e3m4"])
def test_bare(name):
    """The circuits without cases are right where there is no case."""
    fmt  = FloatFormat.parse(name)
    near = fmt.one + np.r_[:fmt.smallest]
    a, b = (values.ravel() for values in np.meshgrid(near, near | fmt.largest + 1))
    found = Gates(area._Bare(fmt, exact=False)).evaluate({"a": a, "b": b})["o"]
    assert np.array_equal(found, formats.multiply(fmt, a, b, LMUL))
    found    = formats.to_float(fmt, Gates(area._Bare(fmt, exact=True)).evaluate({"a": a, "b": b})["o"])
    product  = formats.to_float(fmt, a) * formats.to_float(fmt, b)
    step     = np.where(product <= -2, 2.0, 1.0) / fmt.smallest
    assert np.array_equal(found, np.trunc(product / step) * step)


def test_stored(stored):
    """Of the smallest formats and units, without the clock, which takes long."""
    found = {(row["format"], row["unit"]): row for row in stored["area"]["rows"]}
    assert found.keys() == {(str(fmt), unit) for fmt in area.FORMATS for unit in area.UNITS}
    for row in area.measure([E4M3], ["lmul", "exact"], pnr=False, cache=None):
        expected = found["e4m3", row["unit"]]
        assert row == {key: value for key, value in expected.items() if key != "ecp5_mhz"}
    gates = {row["format"]: row for row in stored["area"]["gates"]}
    assert gates.keys() == {str(fmt) for fmt in area.FORMATS}
    for row in area.gates([E4M3, E5M2]):
        assert json.loads(json.dumps(row)) == gates[row["format"]]


def test_smaller_and_faster(stored):
    """L-Mul is, in every format and on every target, and more so the longer the mantissa."""
    found = {(row["format"], row["unit"]): row for row in stored["area"]["rows"]}
    for fmt in area.FORMATS:
        exact, lmul = found[str(fmt), "exact"], found[str(fmt), "lmul"]
        assert all(exact[key] > lmul[key] for key in ("ecp5_luts", "ecp5_ffs", "xc7_luts", "gates"))
        assert lmul["ecp5_mhz"] > exact["ecp5_mhz"]
    ratios = [found[name, "exact"]["ecp5_luts"] / found[name, "lmul"]["ecp5_luts"]
              for name in ("e5m2", "e4m3", "e8m7", "e6m9", "e6m11")]
    assert ratios == sorted(ratios)
