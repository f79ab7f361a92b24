"""A model on several devices does what it does on one, to the bit."""

import dataclasses

import numpy as np
import pytest

from terngen.host.chain import Chain, check_pieces
from terngen.host.compile import compile_pieces, compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import ConfigError
from terngen.host.layout import Layout, cut
from terngen.host.sampling import Sampling
from terngen.hw import estimate
from terngen.hw.contract.tape import Tape, walk
from terngen.sim.device import GoldenTransport, SimTransport
from terngen.sim.gate import CheckedTransport
from terngen.sim.memory import MemoryModel

#: Every stream stalls, at random.
STALLS = {"memory": MemoryModel(latency=17, refresh_period=701, refresh_pause=43, stall=0.15), "link_stall": 0.1}


@pytest.fixture(scope="module")
def make_pieces(root, tmp_path_factory):
    """Makes the tapes of the pieces of a reference model, once."""
    made = {}

    def make(name, split, **changes):
        key = repr((name, split, changes))
        if key not in made:
            source = Checkpoint.open(root / "tests/data/reference" / name)
            config = default_config(source.geometry, **changes)
            folder = tmp_path_factory.mktemp("pieces")
            paths  = {piece: folder / f"{piece.number}.tape" for piece in cut(source.geometry, config, split)}
            compile_pieces(source, config, paths)
            made[key] = [Tape.open(path) for path in paths.values()]
        return made[key]

    return make


def golden(tape):
    device = Device(GoldenTransport(tape.config), tape)
    device.load()
    return device


@pytest.fixture
def whole(root, tmp_path):
    """Makes a golden device with a whole reference model."""
    def make(name, **changes):
        source = Checkpoint.open(root / "tests/data/reference" / name)
        compile_tape(source, default_config(source.geometry, **changes), tmp_path / "whole.tape")
        return golden(Tape.open(tmp_path / "whole.tape"))
    return make


def chain_of(tapes, kind=golden):
    return Chain([kind(tape) for tape in tapes])


def equal(found, expected):
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.sums.tolist() == expected.sums.tolist()
    assert found.scale == expected.scale


def same(chain, single, seed):
    """Both take the same tokens in the same ways."""
    rng   = np.random.default_rng(seed)
    slots = range(single.config.slots)
    vocab = single.tape.model["vocab_size"]
    known = set()
    for _ in range(6):
        chosen = [slot for slot in slots if rng.random() < 0.7] or [0]
        reset  = [slot for slot in chosen if slot not in known or rng.random() < 0.1]
        known |= set(chosen)
        tokens = {slot: int(rng.integers(vocab)) for slot in chosen}
        for device in (chain, single):
            device.step(tokens, reset=reset)
        for slot in chosen:
            equal(chain.results(slot), single.results(slot))
    prompt = rng.integers(0, vocab, 7).tolist()
    logits = []
    for device in (chain, single):
        assert len(device.prefill(prompt)) == -(-7 // single.config.slots)
        logits.append(device.logits({0: 5}))
    assert logits[0].keys() == logits[1].keys() == {0}
    assert (logits[0][0] == logits[1][0]).all()
    tokens = {slot: 3 + slot for slot in slots}
    texts  = [list(device.decode(tokens, 5, reset=slots)) for device in (chain, single)]
    assert texts[0] == texts[1] and len(texts[0]) == 5
    drawn  = [list(device.decode(tokens, 5, reset=slots, sampling={0: Sampling(temperature=3.0, seed=1)}))
              for device in (chain, single)]
    assert drawn[0] == drawn[1] != texts[0]


@pytest.mark.parametrize("name, split, changes", [
    ("tiny",    2,      {}),
    ("tiny",    2,      {"slots": 3, "beat_bits": 16, "row_lanes": 1, "lanes": 4}),
    ("trained", 3,      {"slots": 2}),
    ("trained", [1, 3], {"slots": 3}),
    ("trained", 4,      {"beat_bits": 256}),
], ids=["tiny", "slots", "three", "uneven", "four"])
def test_golden(make_pieces, whole, name, split, changes):
    same(chain_of(make_pieces(name, split, **changes)), whole(name, **changes), seed=1)


@pytest.mark.parametrize("name, split, changes", [
    ("tiny",    2, {"slots": 3}),
    pytest.param("trained", 3, {"slots": 2, "beat_bits": 32, "lanes": 4}, marks=pytest.mark.long),
], ids=["two", "three"])
def test_simulated(make_pieces, whole, name, split, changes):
    """The generated gateware, everything stalling; every value inside is compared with the golden machine."""
    checked = []

    def simulated(tape):
        checked.append(CheckedTransport(SimTransport(tape.config, seed=len(checked), **STALLS)))
        device = Device(checked[-1], tape)
        device.load()
        return device

    with chain_of(make_pieces(name, split, **changes), simulated) as chain:
        same(chain, whole(name, **changes), seed=2)
    assert not any(each.mismatches for each in checked)
    assert all(each.values_compared > 50_000 for each in checked)


@pytest.mark.parametrize("memory", ["", "latency=37"])
def test_estimated(make_pieces, memory):
    """The estimator knows the cycles of every device, exactly."""
    timing = MemoryModel.parse(memory)
    source = estimate.Source(latency=timing.latency)

    def simulated(tape):
        device = Device(SimTransport(tape.config, direct=True, memory=timing), tape)
        device.load()
        return device

    tapes = make_pieces("tiny", 2, slots=3)
    with chain_of(tapes, simulated) as chain:
        for tokens in {0: 5}, {1: 77, 2: 0}, {0: 127, 1: 1, 2: 64}:
            chain.step(tokens, reset=tokens)
            for tape, counted, rows in zip(tapes, chain.parts, (tokens, {slot: slot for slot in tokens})):
                layers, head = tape.marks["layers"], tape.marks["head"]
                part  = dataclasses.replace(layers, count=layers.count + head.count)
                model = tape.model
                taken = estimate.step(tape.config, [fields for _, fields, _ in walk(tape.config, tape.image, part)],
                                      active=len(rows), tokens=rows, hidden=model["hidden_size"],
                                      embedding=(model["embedding_start"], model["embedding_beats"]),
                                      start=part.start, count=part.count, source=source)
                assert (counted.cycles, counted.beats) == (taken.cycles, taken.beats)


def test_decode_ends(make_pieces, whole):
    """A slot whose text has ended takes no part any more; the others go on."""
    tapes  = make_pieces("trained", 2, slots=3)
    single = whole("trained", slots=3)
    tokens = {0: 3, 1: 40, 2: 9}
    plain  = list(single.decode(tokens, 12, reset=range(3)))
    stop   = plain[4][1]
    texts  = [list(device.decode(tokens, 12, reset=range(3), stop=stop)) for device in (chain_of(tapes), single)]
    assert texts[0] == texts[1]
    assert {len(step) for step in texts[0]} > {3}


def test_decode_is_left(make_pieces):
    """Who does not want more of a text finds all devices as far as each other."""
    chain = chain_of(make_pieces("trained", 3, slots=3))
    for _ in chain.decode({0: 3, 1: 4, 2: 5}, 100, reset=range(3)):
        break
    chain.step({0: 7}, reset=[0])
    fresh = chain_of(make_pieces("trained", 3, slots=3))
    fresh.step({0: 7}, reset=[0])
    equal(chain.results(0), fresh.results(0))


def test_devices_work_at_the_same_time(make_pieces):
    """Parts of a prompt follow each other through the devices: each begins before one ends."""
    log, chain = [], chain_of(make_pieces("trained", 3, slots=2))
    for number, device in enumerate(chain.devices):
        def begin(*args, number=number, device=device, **options):
            log.append(number)
            Device.begin(device, *args, **options)
        def end(device=device):
            log.append("end")
            return Device.end(device)
        device.begin, device.end = begin, end
    chain.prefill(list(range(6)))
    assert log == [0, "end", 0, 1, "end", "end", 0, 1, 2, "end", "end", "end", 1, 2, "end", "end", 2, "end"]


def test_pieces_are_small(root, make_pieces):
    """A piece has the state of its layers only, and a later one no embedding."""
    first, *_, last = tapes = make_pieces("trained", [2, 1, 1])
    whole = sum(len(tape.image) for tape in tapes)
    assert [tape.config.state for tape in tapes] == [256, 128, 128]
    assert "embedding" not in [section.name for section in last.sections]
    assert [section.name for section in first.sections] == ["embedding", "layer.0", "layer.1"]
    assert [section.name for section in last.sections] == ["layer.3", "head"]
    assert [tape.config.readable for tape in tapes] == [True, True, False]
    assert len(last.image) < whole / 2
    geometry = Checkpoint.open(root / "tests/data/reference/trained").geometry
    assert sum(tape.model["ternary_weights"] for tape in tapes) == geometry.ternary_weights


def test_verifies(make_pieces):
    """What passes through is no part of what was loaded."""
    chain = chain_of(make_pieces("tiny", 2))
    chain.step({0: 5}, reset=[0])
    for device in chain.devices:
        device.verify()


def test_refused(make_pieces, whole, make_tape):
    tapes = make_pieces("trained", 3, slots=2)
    other = make_pieces("trained", 2, slots=2)
    plain = make_tape("tests/data/reference/trained")
    check_pieces(tapes)
    check_pieces([plain])
    for given, message in [
        ([tapes[0], tapes[2], tapes[1]], r"^Model was cut into 3 pieces, which must all be given in their order, not "
                                         r"1, 3, 2$"),
        (tapes[:2],                      r"^Model was cut into 3 pieces, .* not 1, 2$"),
        ([tapes[1]],                     r"^Model was cut into 3 pieces, .* not 2$"),
        ([other[0], tapes[1], tapes[2]], r"^Tapes must be pieces of one conversion, but tape 1 is one of \w{32} and "
                                         r"tape 2 one of \w{32}; convert the checkpoint again"),
        ([plain, plain],                 r"^Tape 1 of 2 is a whole model, so it must be given alone; "),
    ]:
        with pytest.raises(ConfigError, match=message):
            Chain([golden(tape) for tape in given])


def test_cut(root):
    """The longest piece is as short as can be, and the head counts."""
    geometry = Checkpoint.open(root / "tests/data/reference/trained").geometry
    config   = default_config(geometry)
    deep     = dataclasses.replace(geometry, num_hidden_layers=24, vocab_size=4000)
    assert [[*piece.layers] for piece in cut(geometry, config, 4)] == [[0], [1], [2], [3]]
    pieces = cut(deep, config, 3)
    layout = Layout(deep, default_config(deep))
    beats  = [sum(layout.marks[f"layer.{index}"].count for index in piece.layers) for piece in pieces]
    beats[-1] += layout.marks["head"].count
    assert max(beats) - min(beats) <= 2 * layout.marks["layer.1"].count
    assert [len(piece.layers) for piece in cut(geometry, config, [3, 1])] == [3, 1]
    for split, message in [(0, r"^A model of 4 layers can be cut into 1 to 4 pieces, not 0$"),
                           (5, r"^A model of 4 layers can be cut .* not 5$"),
                           ([2, 1], r"^Pieces must have all 4 layers of the model, and at least one each, not 2, 1$"),
                           ([4, 0], r"^Pieces must have all 4 layers .* not 4, 0$")]:
        with pytest.raises(ConfigError, match=message):
            cut(geometry, config, split)
