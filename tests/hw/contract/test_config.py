import dataclasses

import pytest

from terngen.hw.contract.config import EXACT, PRESETS, ArrayVariant, Config, Control, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier


@pytest.mark.parametrize("change, message", [
    ({"beat_bits": 48},           r"^Beat width must be a power of two from 16 to 1024, not 48$"),
    ({"beat_bits": 2048},         r"^Beat width must be a power of two from 16 to 1024, not 2048$"),
    ({"row_lanes": 3},            r"^Row lanes must be a power of two and at most the octets of a beat \(8\), not 3$"),
    ({"row_lanes": 16},           r"^Row lanes must be a power of two and at most the octets of a beat \(8\), not 16$"),
    ({"builders": 1},             r"^Builders of tables must be zero where there are no tables, not 1$"),
    ({"variant": ArrayVariant.TABLE, "builders": 3},
     r"^Builders must be zero, or a power of two and at most the octets of a row in a beat \(4\), not 3$"),
    ({"variant": ArrayVariant.TABLE, "builders": 8},
     r"^Builders must be zero, or a power of two and at most the octets of a row in a beat \(4\), not 8$"),
    ({"lanes": 3},                r"^Lanes must be a power of two from 1 to 256, not 3$"),
    ({"lanes": 512},              r"^Lanes must be a power of two from 1 to 256, not 512$"),
    ({"slots": 0},                r"^Slots must be from 1 to 16, not 0$"),
    ({"slots": 17},               r"^Slots must be from 1 to 16, not 17$"),
    ({"hidden": 255},             r"^Hidden must be a multiple of the lanes \(2\) from 4 to 16384, not 255$"),
    ({"hidden": 2048},            r"^Wide must be at least hidden \(2048\), not 1024$"),
    ({"rows": 1 << 17},           r"^Rows must be a multiple"),
    ({"state": 0},                r"^State must be a multiple"),
    ({"prefetch": 3},             r"^Prefetch must be a power of two from 2 to 65536, not 3$"),
    ({"top_k": 16},               r"^Top-k must be from 1 to 15, not 16$"),
    ({"path": FloatFormat(8, 15)}, r"^Path format must have at most 23 bits, not 24$"),
    ({"embedding": FloatFormat(4, 4)},
     r"^Embedding format must have at most 8 bits, and no field longer than that of the path \(e6m11\), or be "
     r"that one, not e4m4$"),
    ({"embedding": FloatFormat(6, 11), "wide": 508},
     r"^Wide must be at least twice hidden \(256\) for embedding rows in the format of the path, not 508$"),
    ({"embedding": FloatFormat(6, 1), "path": FloatFormat(5, 7)},
     r"^Embedding format .* \(e5m7\), or be that one, not e6m1$"),
    ({"embedding": FloatFormat(2, 5), "path": FloatFormat(5, 4)},
     r"^Embedding format .* \(e5m4\), or be that one, not e2m5$"),
    ({"path": FloatFormat(4, 3), "sites": Sites(glu=Multiplier("lmul-8"))},
     r"^Offset of lmul-8 must be less than one \(8 steps\) in e4m3, not 8$"),
])
def test_size_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Config(), **change)


@pytest.mark.parametrize("change, message", [
    ({"beat_bits": 32},           r"^beat_bits of a machine with a processor must be 16, not 32$"),
    ({"lanes": 2},                r"^lanes of a machine with a processor must be 1, not 2$"),
    ({"slots": 2},                r"^slots of a machine with a processor must be 1, not 2$"),
    ({"top_k": 2},                r"^top_k of a machine with a processor must be 1, not 2$"),
    ({"history": 512},            r"^history of a machine with a processor must be at most 256, not 512$"),
    ({"path": FloatFormat(6, 8)}, r"^Path format of a machine with a processor must be e6m9, not e6m8$"),
    ({"sites": Sites(silu=Multiplier("lmul"))}, r"^Multipliers of a machine with a processor must be exact$"),
    ({"readable": True},          r"^Machine with a processor cannot be one of several that share a model$"),
    ({"embedding": FloatFormat(6, 9), "wide": 512}, r"^Machine with a processor cannot be one of several"),
])
def test_processor_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PRESETS["processor"], **change)


@pytest.mark.parametrize("sizes, message", [
    ({"intermediate": 257}, r"^wide of a machine with a processor must be at most 256, not 257$"),
    ({"layers": 180},       r"^state of a machine with a processor must be at most 14336, not 14400$"),
])
def test_processor_room(sizes, message):
    with pytest.raises(ValueError, match=message):
        PRESETS["processor"].sized(**{"hidden": 64, "state": 80, "intermediate": 200, "layers": 2, **sizes})


def test_control_wrong():
    with pytest.raises(ValueError, match=r"^Control must be one of units, program, not 'fast'$"):
        Config.from_dict({"control": "fast"})


@pytest.mark.parametrize("value", [1.0, "2", True, None])
def test_type_wrong(value):
    with pytest.raises(TypeError, match=r"^slots must be an integer, not "):
        Config(slots=value)


@pytest.mark.parametrize("name", PRESETS)
def test_dict_round_trip(name):
    config = PRESETS[name]
    if config.control is Control.UNITS:
        config = dataclasses.replace(config, sites=Sites.all(Multiplier("lmul")), slots=3)
    assert Config.from_dict(config.to_dict()) == config
    assert Config.from_dict(config.to_dict()).digest == config.digest
    if config.control is Control.UNITS:
        linked = dataclasses.replace(config, embedding=config.path, readable=True, wide=2 * config.hidden)
        assert Config.from_dict(linked.to_dict()) == linked


def test_readable_wrong():
    with pytest.raises(TypeError, match=r"^readable must be true or false, not 1$"):
        Config(readable=1)


def test_digest_depends_on_everything():
    base = Config()
    changes = [{"variant": ArrayVariant.TABLE}, {"variant": ArrayVariant.TABLE, "builders": 2},
               {"beat_bits": 128}, {"row_lanes": 4}, {"lanes": 4}, {"slots": 2}, {"hidden": 128}, {"wide": 2048},
               {"rows": 2048}, {"state": 4096}, {"prefetch": 128}, {"top_k": 4},
               {"path": FloatFormat(8, 7)}, {"embedding": FloatFormat(4, 3)}, {"embedding": FloatFormat(5, 2)},
               {"embedding": FloatFormat(6, 11)}, {"readable": True},
               {"sites": Sites(silu=Multiplier("lmul"))}]
    digests = {base.digest, *(dataclasses.replace(base, **change).digest for change in changes)}
    assert len(digests) == 1 + len(changes)


@pytest.mark.parametrize("values, message", [
    ({"lanse": 2},                r"^Configuration has no 'lanse'; it has beat_bits, "),
    ({"variant": "magic"},        r"^Variant must be one of tree, table, triples, not 'magic'$"),
    ({"sites": {"gates": "exact"}}, r"^There is no product 'gates'; there are dequantise, "),
    ({"sites": {"gate": "fast"}}, r"^Multiplier must be "),
    ({"path": "fp16"},            r"^Float format must be written like e6m11, not 'fp16'$"),
    ({"path": 16},                r"^Float format must be written like e6m11, not '16'$"),
    ({"sites": {"norm": 3}},      r"^Multiplier must be exact, lmul, .*, not '3'$"),
    ({"sites": "exact"},          r"^Sites must name multipliers by product, not 'exact'$"),
])
def test_dict_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        Config.from_dict(values)


def test_geometry():
    config = Config(beat_bits=64, row_lanes=2, lanes=8)
    assert (config.lane_bytes, config.block_cols) == (4, 20)
    assert config.matrix_beats(rows=5, cols=41) == 3 * 3
    assert config.parameter_beats(5) == 2


@pytest.mark.parametrize("beat_bits, row_lanes, hidden, builders", [
    (64, 1, 4096, 1),       # a block of 4096 beats, 8 tables of 255 steps
    (64, 1, 1024, 2),
    (64, 1, 1018, 4),
    (64, 1, 128,  8),       # too few rows to hide it: all at a time
    (16, 1, 2048, 1),
    (512, 4, 1024, 16),
])
def test_builders_hide_the_filling(beat_bits, row_lanes, hidden, builders):
    config = Config(variant=ArrayVariant.TABLE, beat_bits=beat_bits, row_lanes=row_lanes, lanes=2,
                    hidden=hidden, wide=4096)
    assert config.table_builders == builders
    assert dataclasses.replace(config, builders=1).table_builders == 1


def test_sums_cannot_overflow():
    config = Config(wide=1024)
    assert 127 * config.wide < 1 << config.acc_width - 1
    assert Sites.all(EXACT) == Sites()
