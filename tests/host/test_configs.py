"""Configurations by name and from files."""

import dataclasses
import json

import pytest

from terngen.host import configs
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import ConfigError
from terngen.hw.contract.config import PRESETS, Config


@pytest.fixture(scope="module")
def geometry(tiny):
    return Checkpoint.open(tiny).geometry


@pytest.mark.parametrize("name", PRESETS)
def test_preset(name, geometry):
    """A name is a machine; for a model its buffers are as large as the model needs."""
    assert configs.machine_config(name) == PRESETS[name]
    sized = configs.model_config(geometry, name)
    assert (sized.hidden, sized.wide, sized.rows, sized.state) == (64, 256, 256, 128)
    assert dataclasses.replace(sized, hidden=256, wide=1024, rows=1024, state=2048) == PRESETS[name]


def test_slots(geometry, tmp_path):
    assert configs.machine_config("tiny", slots=3).slots == 3
    assert configs.model_config(geometry, "tiny", slots=3).slots == 3
    path = tmp_path / "machine.json"
    path.write_text('{"slots": 2}')
    assert configs.machine_config(path).slots == 2
    assert configs.machine_config(path, slots=4).slots == 4


@pytest.mark.parametrize("name, text", [
    ("machine.json", '{"beat_bits": 128, "lanes": 4, "sites": {"silu": "lmul"}}'),
    ("machine.toml", 'beat_bits = 128\nlanes = 4\n[sites]\nsilu = "lmul"\n'),
    ("manifest.json", '{"top": "terngen", "config": {"beat_bits": 128, "lanes": 4, "sites": {"silu": "lmul"}}}'),
])
def test_file(tmp_path, geometry, name, text):
    path = tmp_path / name
    path.write_text(text)
    config = configs.machine_config(path)
    assert (config.beat_bits, config.lanes, str(config.sites.silu)) == (128, 4, "lmul")
    assert config.hidden == Config().hidden
    assert configs.model_config(geometry, path).hidden == 64


def test_given_buffers_stay(geometry, tmp_path):
    """What a file says about buffers is what the machine has, if the model fits."""
    path = tmp_path / "machine.json"
    path.write_text('{"state": 512, "rows": 1024}')
    config = configs.model_config(geometry, path)
    assert (config.state, config.rows, config.wide, config.hidden) == (512, 1024, 256, 64)
    path.write_text('{"state": 64}')
    with pytest.raises(ConfigError, match=r"^Model needs state = 128, the configuration has 64; enlarge state$"):
        configs.model_config(geometry, path)


def test_whole_dict_round_trip(tmp_path):
    config = dataclasses.replace(PRESETS["wide"], slots=3, top_k=4)
    path   = tmp_path / "machine.json"
    path.write_text(json.dumps(config.to_dict()))
    assert configs.machine_config(path) == config


def test_like(geometry):
    """The same machine, or another one with the same buffers."""
    other = configs.model_config(geometry, "wide")
    assert configs.like(other) == other
    assert configs.like(other, slots=3) == dataclasses.replace(other, slots=3)
    assert configs.like(other, "small") == configs.model_config(geometry, "small")


@pytest.mark.parametrize("text, message", [
    ("{",                     r"must be JSON, or TOML in a \.toml file: "),
    ("[1]",                   r"must be an object, not \[1\]$"),
    ('{"config": 1}',         r"^Configuration is refused: Configuration has no 'config'; it has beat_bits, "),
    ('{"lane": 2}',           r"^Configuration is refused: Configuration has no 'lane'; it has beat_bits, "),
    ('{"lanes": 3}',          r"^Configuration is refused: Lanes must be a power of two .*, not 3$"),
    ('{"lanes": "2"}',        r"^Configuration is refused: lanes must be an integer, not '2'$"),
    ('{"lanes": 2.0}',        r"^Configuration is refused: lanes must be an integer, not 2\.0$"),
    ('{"slots": true}',       r"^Configuration is refused: slots must be an integer, not True$"),
    ('{"slots": 17}',         r"^Configuration is refused: Slots must be from 1 to 16, not 17$"),
    ('{"variant": "magic"}',  r"^Configuration is refused: Variant must be one of .*, not 'magic'$"),
    ('{"path": "e99m99"}',    r"^Configuration is refused: "),
    ('{"path": 3}',           r"^Configuration is refused: "),
    ('{"sites": ["silu"]}',   r"^Configuration is refused: "),
    ('{"sites": {"up": "lmul"}}', r"^Configuration is refused: There is no product 'up'; there are "),
    ('{"sites": {"silu": 1}}', r"^Configuration is refused: "),
    ("[" * 100_000,           r"must be JSON, or TOML in a \.toml file: "),
])
def test_file_wrong(tmp_path, text, message):
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        configs.machine_config(path)


def test_file_unreadable(tmp_path):
    with pytest.raises(ConfigError, match=r"^There is no configuration 'large', and no file of that name; there "
                                          r"are tiny, small, wide, compact, onchip, processor$"):
        configs.machine_config("large")
    with pytest.raises(ConfigError, match=r" cannot be read: .*directory"):
        configs.machine_config(tmp_path)
    path = tmp_path / "machine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r" cannot be read: "):
        configs.machine_config(path)
    path.write_text("lanes == 2")
    with pytest.raises(ConfigError, match=r" must be JSON, or TOML in a \.toml file: "):
        configs.machine_config(path)
