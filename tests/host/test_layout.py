"""The layout of a tape is that of the tape."""

import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.layout import Layout
from terngen.hw.contract.tape import Tape, walk


@pytest.mark.parametrize("preset", ["tiny", "small", "wide"])
@pytest.mark.parametrize("model", ["tests/data/reference/tiny", "tests/data/reference/tiny-nolb", "models/fairy-1m"])
def test_layout(root, tmp_path, model, preset):
    """Without a weight it has every descriptor but for its numbers, and knows where each part lies."""
    source = Checkpoint.open(root / model)
    config = default_config(source.geometry, preset)
    compile_tape(source, config, tmp_path / "tape")
    tape   = Tape.open(tmp_path / "tape")
    layout = Layout(source.geometry, config)
    assert layout.marks == tape.marks
    assert layout.beats == tape.beats
    assert layout.row_beats == tape.model["embedding_beats"]
    for name, mark in tape.marks.items():
        found = [{key: value for key, value in fields.items() if key not in ("scale", "weight", "reserved")}
                 for _, fields, _ in walk(config, tape.image, mark)]
        assert [item.fields for item in layout.items[name]] == found
