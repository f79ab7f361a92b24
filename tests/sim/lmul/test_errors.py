"""Errors of L-Mul: what measures them, and that what is stored is what they are."""

import numpy as np
import pytest

from terngen.hw.contract import formats
from terngen.hw.contract.formats import LMUL, FloatFormat, Multiplier
from terngen.sim.lmul import errors


@pytest.fixture(scope="module")
def rows():
    return {(row["bits"], row["form"], row["policy"]): row for row in errors.table()}


def test_stored(stored, rows, alike):
    """The functions have the errors of the page, all of them."""
    found = {(row["bits"], row["form"], row["policy"]): row for row in stored["errors"]["errors"]}
    assert found.keys() == rows.keys()
    assert len(rows) == 9 * 7
    for key, row in rows.items():
        assert alike(row, found[key], rel=1e-9, abs=1e-12)


def test_policy():
    [row] = [row for row in errors.table([Multiplier("lmul-1")]) if row["bits"] == 4 and row["form"] == "added"
             and row["policy"] == "lmul-1"]
    # The largest error is that of 1 times 1: nothing but the offset.
    assert row["high"] == 1 / 16


def test_known_errors(rows):
    """Of Mitchell's product the integral is known: none is too large, and the worst is 1.5 times 1.5."""
    row = rows[10, "added", "lmul-mitchell"]
    assert row["high"] == 0
    assert row["low"] == pytest.approx(-1 / 9, abs=1e-6)
    assert row["bias"] == pytest.approx(-row["mean"])
    assert row["bias"] == pytest.approx(-0.0385, abs=1e-4)
    # The formula as it is printed leaves out a product of fractions, whose mean here is ((1 - ln 2)**2).
    assert rows[10, "printed", "lmul-mitchell"]["bias"] == pytest.approx(-(1 - np.log(2))**2, abs=3e-4)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("function, compared, step", [(formats.multiply, errors._added, 0),
                                                      (formats.multiply_literal, errors._printed, 1)])
def test_same_functions(bits, function, compared, step):
    """What the comparison computes with floats are the functions of the contract but for the last bit."""
    fmt  = FloatFormat(8, bits)
    rng  = np.random.default_rng(bits)
    a, b = fmt.one + rng.integers(-8 << bits, 8 << bits, (2, 5000))
    x, y = formats.to_float(fmt, a), formats.to_float(fmt, b)
    codes    = function(fmt, a, b, LMUL)
    expected = formats.from_float(fmt, compared(x, y, LMUL.offset(fmt) / (1 << bits)))
    assert np.array_equal(codes, expected)
    if not step:
        assert np.array_equal(formats.to_float(fmt, codes), compared(x, y, LMUL.offset(fmt) / (1 << bits)))


def test_comparison(stored, alike):
    """Closed forms of the paper and what was drawn are the same; the numbers are those of the page."""
    found = errors.compare()
    kept  = [row for row in stored["errors"]["comparison"] if row["operands"] != "weights"]
    assert len(kept) == len(found) == 2 * 2 * 12
    for row, other in zip(found, kept):
        assert alike(row, other, rel=1e-6, abs=1e-9)
    for row in found:
        if row["operands"] == "even" and row["how"] == "cut":
            product, lmul = errors.estimates(row["bits"])
            if row["product"] in ("e5m2", "e4m3"):
                assert row["mean"] == pytest.approx(product, abs=1e-3)
            elif row["product"] == "lmul, printed":
                assert row["mean"] == pytest.approx(lmul, abs=1e-3)


def test_claims(stored):
    """What docs/lmul.md says of the claims of the paper."""
    rows = {(row["product"], row["bits"], row["operands"], row["how"]): row for row in stored["errors"]["comparison"]}
    rms  = {key: row["rms"] for key, row in rows.items()}
    mean = {key: row["mean"] for key, row in rows.items()}
    for operands in ("even", "normal", "weights"):
        e5m2, e4m3 = (("e5m2", 2, operands), ("e4m3", 3, operands))
        printed, added = ((f"lmul, {form}", operands) for form in ("printed", "added"))

        def of(product, bits, how, figures=rms):
            return figures[product[0], bits, product[1], how]

        # On the paper's terms, operands cut and errors with their sign.
        assert abs(of(printed, 3, "cut", mean)) < abs(mean[*e5m2, "cut"])
        assert abs(of(printed, 4, "cut", mean)) < 1.03 * abs(mean[*e4m3, "cut"])
        assert (abs(of(printed, 5, "cut", mean)) < abs(mean[*e4m3, "cut"])) == (operands != "even")
        # Root mean square: what is printed beats e5m2 but not always e4m3; the addition beats both.
        assert of(printed, 3, "cut") < rms[*e5m2, "cut"]
        assert of(added, 3, "cut") < rms[*e4m3, "cut"]
        # With operands that are rounded, as hardware does.
        assert of(printed, 3, "rounded") > rms[*e5m2, "rounded"]
        assert min(of(printed, bits, "rounded") for bits in (4, 5, 6)) > 2 * rms[*e4m3, "rounded"]
        assert of(added, 4, "rounded") > 1.5 * rms[*e4m3, "rounded"]
        assert of(added, 5, "rounded") < rms[*e4m3, "rounded"]


def test_plot(tmp_path, stored):
    errors.draw(stored["errors"]["errors"], tmp_path / "errors.svg")
    assert "<svg" in (tmp_path / "errors.svg").read_text()
