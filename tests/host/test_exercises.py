"""The tape that plays all that a descriptor can ask for, and what comes of a machine that does one thing else."""

import dataclasses

import numpy as np
import pytest

from terngen.host.device import Device
from terngen.host.exercises import PARTS, exercises, way, ways
from terngen.host.selftest import selftest
from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.contract.tape import Op, walk
from terngen.sim.device import GoldenTransport

CONFIGS = {**{name: Config.from_dict(preset.choices) for name, preset in PRESETS.items()},
           "three slots": Config(slots=3),
           "least": Config(beat_bits=16, row_lanes=1, lanes=1, hidden=2, wide=2, rows=8, state=2, history=2),
           "few rows": Config(lanes=1, row_lanes=1, rows=2, hidden=8, wide=8, state=8),
           "broad": Config(beat_bits=1024, row_lanes=8, lanes=64, hidden=128, wide=128, rows=128, state=128)}


def played(tape):
    """Ways in which descriptors are played, each part by itself."""
    return {name: {way(fields) for _, fields, _ in walk(tape.config, tape.image, tape.marks[name])} for name in PARTS}


@pytest.mark.parametrize("name", CONFIGS)
def test_everything_is_in_it(name):
    """Each operation, with each combination of the flags that have a meaning for it, for any machine."""
    tape  = exercises(CONFIGS[name])
    found = played(tape)
    assert set.union(*found.values()) == ways()
    assert {op for op, _ in ways()} == set(Op) - {Op.EMBED}
    assert len(tape.image) < 1 << 20
    with Device.open("golden", tape) as device:
        device.load()
        device.verify()


@pytest.mark.parametrize("name", CONFIGS)
def test_golden(name):
    """Against itself: nothing in it makes no sense, and values are neither all zero nor all as large as can be."""
    tape = exercises(CONFIGS[name])
    with Device.open("golden", tape) as device, Device.open("golden", tape) as golden:
        golden.load()
        steps = list(selftest(device, golden, lambda done, total: None))
        assert [step.name for step in steps] == ["link", "memory", *PARTS, "text"]
        assert all(step.passed for step in steps)
        results = golden.results(0)
        assert len(np.unique(results.sums)) >= min(tape.config.top_k, 2)
        assert results.scale > 0


def named(one):
    return "-".join([one[0].name, *sorted(one[1])])


@pytest.mark.parametrize("one", sorted(ways(), key=named), ids=named)
def test_each_way_counts(one):
    """A machine that does one way of one operation differently is found out."""
    tape = exercises(Config(hidden=64, wide=64, rows=64, state=128))
    with Device(GoldenTransport(tape.config), tape) as device, Device.open("golden", tape) as golden:
        golden.load()
        machine = device.transport.machine
        execute = machine._execute

        def wrong(beat, fields, octets, on, vocab):
            if way(fields) != one:
                return execute(beat, fields, octets, on, vocab)
            match fields["opcode"]:
                case Op.MATVEC:
                    execute(beat, fields, octets, on, vocab)
                    machine._sums[-1].values[:, 0] += 3
                case Op.QUANTISE:
                    execute(beat, fields, octets, on, vocab)
                    machine._codes[-1].values[:, 0] ^= 0x40
                case Op.LOGITS:
                    execute(beat, fields | {"first": not fields["first"]}, octets, on, vocab)
                case Op.SILU:
                    execute(beat, fields | {"scale": fields["scale"] ^ 1 << 16}, octets, on, vocab)
                case _ if fields["weighted"]:
                    execute(beat, fields | {"weighted": 0, "weight": 0, "beats": 0}, octets[:0], on, vocab)
                case _:
                    execute(beat, fields | {"weight": fields["weight"] ^ 1 << 16}, octets, on, vocab)

        machine._execute = wrong
        *before, last = selftest(device, golden, lambda done, total: None)
    assert all(step.passed for step in before)
    assert not last.passed
    assert one in played(tape)[last.name]
    assert last.detail.endswith("build again, and see the worst path of report.json")


@pytest.mark.parametrize("options", [{}, {"slots": 3}], ids=["one slot", "three slots"])
def test_gateware(options):
    """The machine gives the golden machine's answers."""
    tape = exercises(dataclasses.replace(Config(hidden=64, wide=128, rows=128, state=128), **options))
    with Device.open("sim", tape) as device, Device.open("golden", tape) as golden:
        golden.load()
        steps = list(selftest(device, golden, lambda done, total: None))
    assert [step for step in steps if not step.passed] == []
    assert len(steps) == 3 + len(PARTS)
