"""Trace events, unpacked."""

import numpy as np
import pytest
from amaranth.hdl import Shape
from amaranth.lib import data

from terngen.hw.contract.config import PRESETS, Config
from terngen.hw.contract.formats import FloatFormat
from terngen.hw.contract.tape import Op
from terngen.hw.contract.trace import event_layout
from terngen.sim.trace import decode, event_words

CONFIGS = {
    **PRESETS,
    "odd": Config(beat_bits=128, lanes=4, slots=3, path=FloatFormat(7, 15), wide=2048, rows=2048),
}


def pack(config, fields):
    """Words of one event, by Amaranth's own layout."""
    layout = event_layout(config)

    def masked(value, shape):
        if isinstance(value, list):
            return [masked(element, shape.elem_shape) for element in value]
        return value & (1 << Shape.cast(shape).width) - 1

    values = {name: masked(value, layout[name].shape) for name, value in fields.items() if name != "op"}
    word = layout.const({"op": fields["op"], **values}).as_bits()
    return np.frombuffer(word.to_bytes(4 * event_words(config), "little"), np.uint32)


def draw(rng, config):
    """An event of random fields, with corners among them."""
    fields = {}
    for name, field in event_layout(config):
        array  = isinstance(field.shape, data.ArrayLayout)
        width  = Shape.cast(field.shape.elem_shape if array else field.shape).width
        signed = name in ("acc", "code")
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        choices = [low, high, -1 if signed else 1, 0, *rng.integers(low, high, 4, endpoint=True).tolist()]
        values  = [choices[rng.integers(len(choices))] for _ in range(config.lanes if array else 1)]
        fields[name] = values if array else values[0]
    fields["op"] = Op(rng.choice([op.value for op in Op]))
    return fields


@pytest.mark.parametrize("name", CONFIGS)
def test_decode(name):
    config   = CONFIGS[name]
    rng      = np.random.default_rng(1)
    expected = [draw(rng, config) for _ in range(200)]
    actual   = decode(config, np.stack([pack(config, fields) for fields in expected]))
    assert set(actual) == {field for field, _ in event_layout(config)}
    for field, values in actual.items():
        wanted = [event[field].value if field == "op" else event[field] for event in expected]
        assert values.dtype == np.int64
        assert values.tolist() == wanted, field


def test_nothing():
    config = CONFIGS["odd"]
    fields = decode(config, np.empty((0, event_words(config)), np.uint32))
    assert fields["acc"].shape == (0, 4)
    assert fields["op"].shape == (0,)


@pytest.mark.parametrize("words", [
    np.zeros((3, 99), np.uint32), np.zeros(99, np.uint32), np.zeros((3, event_words(Config())), np.int64)])
def test_words_wrong(words):
    with pytest.raises(ValueError, match=r"^Events must be uint32 of shape \(events, \d+\), not "):
        decode(Config(), words)
