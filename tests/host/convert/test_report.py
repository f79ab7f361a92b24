"""What saturates, counted."""

import numpy as np
import pytest

from terngen.host.convert.report import Calibration
from terngen.hw.contract import formats
from terngen.hw.contract.tape import Op, Tape
from terngen.sim.golden.machine import Event
from terngen.sim.golden.sequence import Sequence


@pytest.fixture
def tape(tiny_tape):
    return Tape.open(tiny_tape)


@pytest.fixture
def calibration(tape):
    return Calibration(tape)


def event(op, beat, elements, **scalars):
    return Event(op, beat, np.array([0]), {name: np.array([values]) for name, values in elements.items()},
                 {name: np.array([value]) for name, value in scalars.items()})


def test_counts(tape, calibration):
    """Each value once; what saturated also by the section in which its descriptor stands."""
    fmt     = tape.config.path
    largest = fmt.largest
    minus   = int(formats.from_float(fmt, -1e30))
    one     = int(formats.from_float(fmt, 1.0))
    first, second = tape.section("layer.0").start, tape.section("layer.1").start
    calibration.add(event(Op.GLU, first + 5, {"acc": [0, -900, 3], "value": [0, one, minus]}, scale=one))
    calibration.add(event(Op.GLU, second, {"acc": [1, 2, 5000], "value": [largest, largest, 0]}, scale=0))
    calibration.add(event(Op.QUANTISE, second + 2, {"code": [-127, 0, 127, 126]}))
    calibration.add(event(Op.EMBED, -1, {"value": [minus]}))
    found = calibration.to_dict()
    most  = float(formats.to_float(fmt, largest))
    assert found["sites"] == {
        "EMBED.value":   {"values": 1, "saturated": 1, "zero": 0, "largest": most},
        "GLU.acc":       {"values": 6, "saturated": 0, "zero": 1, "largest": 5000.0},
        "GLU.scale":     {"values": 2, "saturated": 0, "zero": 1, "largest": 1.0},
        "GLU.value":     {"values": 6, "saturated": 3, "zero": 2, "largest": most},
        "QUANTISE.code": {"values": 4, "saturated": 2, "zero": 1, "largest": 127.0},
    }
    assert found["saturated"] == {"layer.0": {"GLU.value": 1}, "layer.1": {"GLU.value": 2},
                                  "embedding": {"EMBED.value": 1}}


def test_a_whole_machine(tape, calibration):
    """Every value of every operation is counted, once for each token."""
    tokens   = [5, 9, 77]
    sequence = Sequence(tape)
    sequence.machine.observe = calibration.add
    sequence.advance(tokens)
    sites = calibration.sites
    assert sites["EMBED.value"].values == 3 * 64
    assert sites["LOGITS.acc"].values == 3 * 128
    assert sites["MLGRU.state"].values == 3 * 2 * 64
    assert sites["GLU.value"].values == 3 * 2 * 256
    assert sites["RESIDUAL.peak"].values == 3 * 2 * 2
    assert sites["QUANTISE.code"].saturated >= 3 * (2 * 6 + 1)      # the peak of each vector
    assert not calibration.saturated
