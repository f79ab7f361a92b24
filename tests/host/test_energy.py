"""Operations of a token and their energy."""

import collections

import numpy as np
import pytest

from terngen.host import energy
from terngen.host.configs import model_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.models import open_model
from terngen.hw.contract import formats
from terngen.hw.contract.config import Sites
from terngen.sim.golden.sequence import Sequence
from terngen.sim.switching import operands


@pytest.mark.parametrize("model", ["tests/data/reference/tiny", "tests/data/reference/tiny-nolb", "models/fairy-1m"])
def test_products_are_those_of_the_machine(root, model):
    """Site by site as many as the golden machine computes for a token."""
    geometry = Checkpoint.open(root / model).geometry
    sequence = Sequence(open_model(root / model), chunk=1)
    seen: collections.Counter[str] = collections.Counter()

    def observe(site, a, b):
        seen[site] += np.broadcast(a, b).size

    sequence.machine.observe_products = observe
    sequence.advance([1])
    seen["dequantise"] -= 2 * (-(-geometry.vocab_size // sequence.machine.config.rows) - 1)     # once for a tile
    counted = energy.products(geometry, model_config(geometry))
    counted["dequantise"] -= 2 * (-(-geometry.vocab_size // sequence.machine.config.rows) - 1)
    assert counted == dict(seen)


def test_additions_are_those_of_the_machine(root, monkeypatch):
    model = root / "tests/data/reference/tiny"
    seen  = []
    real_add, real_accumulate = formats.add, formats.accumulate

    def add(fmt, a, b):
        seen.append(np.broadcast(a, b).size)
        return real_add(fmt, a, b)

    def accumulate(fmt, totals, terms):
        if terms.shape[-1] > 1:         # the constant of a root aside
            seen.append(terms.size)
        return real_accumulate(fmt, totals, terms)

    tape = open_model(model)
    Sequence(tape, chunk=1).advance([1])        # tables are made
    monkeypatch.setattr(formats, "add", add)
    monkeypatch.setattr(formats, "accumulate", accumulate)
    Sequence(tape, chunk=1).advance([1])
    geometry = Checkpoint.open(model).geometry
    assert energy.additions(geometry, model_config(geometry)) == sum(seen)


def test_of_machine(root):
    """By hand: other products, a shorter format, and memory on the chip."""
    geometry = Checkpoint.open(root / "models/fairy-1m").geometry
    exact    = model_config(geometry)
    lmul     = model_config(geometry, sites=Sites.parse("lmul").to_dict())
    count    = sum(energy.products(geometry, exact).values())
    fp18     = {"mult": 1.1 + (12 ** 2 - 11 ** 2) * 2.6 / (24 ** 2 - 11 ** 2), "add": 0.4 + 2 * 0.5 / 16}
    matrices = geometry.ternary_weights * energy.of_addition(exact.acc_width)
    expected = matrices + count * fp18["mult"] + energy.additions(geometry, exact) * fp18["add"]
    assert energy.of_machine(geometry, exact, bits=0, on_chip=False) == pytest.approx(expected)
    saved    = count * (fp18["mult"] - energy.of_addition(17))
    assert energy.of_machine(geometry, lmul, bits=0, on_chip=False) == pytest.approx(expected - saved)
    assert energy.of_machine(geometry, exact, bits=64, on_chip=True) == pytest.approx(expected + 10)
    assert energy.of_machine(geometry, exact, bits=64, on_chip=False) == pytest.approx(expected + 1950)
    short = model_config(geometry, path="e6m7")
    assert energy.of_machine(geometry, short, bits=0, on_chip=False) < expected


def test_energy(root):
    """By hand, for matrices and products."""
    geometry = Checkpoint.open(root / "models/fairy-1m").geometry
    machine  = model_config(geometry)
    found    = energy.energy(geometry, machine)
    count    = sum(energy.products(geometry, machine).values())
    assert found["fp16 dense"]["matrices_pj"] == pytest.approx(1_179_648 * 1.5)
    assert found["int8 exact"]["matrices_pj"] == pytest.approx(1_179_648 * 0.3)
    assert found["int8 exact"]["products_pj"] == pytest.approx(count * 1.1)
    # Additions of 17 bits, on the line from 8 to 32.
    assert found["ternary, L-Mul"]["products_pj"] == pytest.approx(count * (0.03 + 9 / 24 * 0.07))
    assert found["ternary, L-Mul"]["operations"].keys() == {"int17 add", f"int{machine.acc_width} add", "fp16 add"}
    for row in found.values():
        parts = ("matrices_pj", "products_pj", "additions_pj")
        assert row["compute_pj"] == pytest.approx(sum(row[part] for part in parts))
    assert found["fp16 dense"]["dram_pj"] == pytest.approx([16 * 1_179_648 / 64 * each for each in (1300, 2600)])


def test_claims():
    """The paper's 95 % hold of the products alone; its 80 % of dot products need products of 32 bits."""
    found = energy.claims()
    assert found["element-wise products"]["fp16"] >= 0.94
    assert found["element-wise products"]["fp32"] > 0.95
    assert found["dot products"]["fp16"] == pytest.approx(0.69, abs=0.02)
    assert found["dot products"]["fp32"] == pytest.approx(0.78, abs=0.01)


def test_command(terngen, root):
    found = terngen("energy", "--geometry", "370m", "--json").values
    assert found["weights"] == 341_049_344
    lines = terngen("energy", root / "models" / "fairy-1m").stdout
    assert "estimate" in lines and "Horowitz" in lines


def test_operands(root):
    """Those of a lane, in order: every second one of two lanes."""
    tape  = open_model(root / "tests/data/reference/tiny")
    found = operands(tape, [1, 2])
    geometry = Checkpoint.open(root / "tests/data/reference/tiny").geometry
    counts   = energy.products(geometry, tape.config)
    for site, (a, b) in found.items():
        scales = 2 * (4 * 2 + 2 * 2) * 2 if site == "dequantise" else 0
        assert len(a) == len(b)
        if site != "dequantise":
            assert 2 * len(a) == 2 * counts[site] - scales


def test_switching(terngen, speaking, work):
    """Exact products switch more in every site."""
    pytest.importorskip("pyosys")
    (work / "text").write_text("a fox")
    found = terngen("energy", speaking, "--text", "text", "--tokens", 2, "--json").values["switching"]
    for row in found.values():
        assert row["exact"] > 2 * row["lmul"] > 0
        assert row["ratio"] == pytest.approx(row["exact"] / row["lmul"])


@pytest.mark.parametrize("words, code, message", [
    ([], 2, "Either a model or --geometry must be given."),
    (["--geometry", "370m", "--multiplier", "exact"], 2,
     "Invalid value for --multiplier: Multiplier must be one of L-Mul"),
    (["--geometry", "370m", "--text", "text"], 2, "What switches depends on weights, so --text needs a model."),
    (["nothing"], 8, "There is no tape and no checkpoint folder at nothing"),
])
def test_wrong(refused, words, code, message):
    refused("energy", *words, code=code, message=message)
