import contextlib
import json
import shutil
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from terngen.host.convert import checkpoint as checkpoint_module
from terngen.host.convert.checkpoint import Checkpoint, Geometry
from terngen.host.errors import CheckpointError, UnsupportedError

DATA = Path(__file__).parents[2] / "data" / "reference"
MODELS = ["tiny", "tiny-nolb", "trained"]

SMALL = {"model_type": "hgrn_bit", "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2,
         "intermediate_size": 16}
HEAD = "lm_head.weight"  # (12, 8)


def tensors_of(config):
    """Random float32 tensors that bfloat16, and so every storage type, holds exactly."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(-128, 128, shape).astype(np.float32) / 64
            for name, shape in Geometry.from_config(config).tensors.items()}


def write_config(folder, config):
    (folder / "config.json").write_text(json.dumps(config))


def encode(entries):
    """Lay out a safetensors file of name to (dtype, shape, octets)."""
    header, data = {}, b""
    for name, (dtype, shape, octets) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(octets)]}
        data += octets
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


def bfloat16(tensor):
    return (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()


@pytest.fixture
def folder(tmp_path):
    """A sound checkpoint of SMALL."""
    write_config(tmp_path, SMALL)
    save_file(tensors_of(SMALL), tmp_path / "model.safetensors")
    return tmp_path


def save(folder, **changes):
    """Save SMALL again with some tensors replaced, or left out where None."""
    tensors = tensors_of(SMALL) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None},
              folder / "model.safetensors")


def refused(folder, message, error=CheckpointError):
    with pytest.raises(error, match=message) as info:
        Checkpoint.open(folder)
    assert info.type is error
    assert "\n" not in str(info.value)


# Values

@pytest.mark.parametrize("model", MODELS)
def test_reads_public_checkpoints(model):
    checkpoint = Checkpoint.open(DATA / model)
    assert checkpoint.tokenizer is None
    for name, shape in checkpoint.geometry.tensors.items():
        tensor = checkpoint.tensor(name)
        assert tensor.shape == shape
        assert tensor.dtype == np.float32


@pytest.mark.parametrize("storage", ["F32", "F16", "BF16"])
def test_storage(folder, storage):
    octets = {"F32": np.ndarray.tobytes, "F16": lambda tensor: tensor.astype("<f2").tobytes(), "BF16": bfloat16}
    tensors = tensors_of(SMALL)
    (folder / "model.safetensors").write_bytes(encode({
        name: (storage, tensor.shape, octets[storage](tensor)) for name, tensor in tensors.items()}))
    checkpoint = Checkpoint.open(folder)
    for name, tensor in tensors.items():
        assert (checkpoint.tensor(name) == tensor).all()


def test_rows(folder):
    checkpoint, expected = Checkpoint.open(folder), tensors_of(SMALL)[HEAD]
    assert (checkpoint.rows(HEAD, 3, 7) == expected[3:7]).all()
    assert (checkpoint.rows(HEAD, 11, 12) == expected[11:]).all()
    assert checkpoint.rows(HEAD, 5, 5).shape == (0, 8)
    for start, stop in [(-1, 2), (2, 1), (0, 13)]:
        with pytest.raises(ValueError, match=r"^Rows of lm_head.weight must lie within 0 to 12, not "):
            checkpoint.rows(HEAD, start, stop)


def test_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    assert Checkpoint.open(folder).tokenizer == folder / "tokenizer.json"


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_ternary_matches_public_implementation(monkeypatch, chunk):
    monkeypatch.setattr(checkpoint_module, "_CHUNK_VALUES", chunk)
    checkpoint = Checkpoint.open(DATA / "tiny")
    with np.load(DATA / "tiny" / "ternary.npz") as archive:
        expected = dict(archive)
    for name in checkpoint.geometry.matrices:
        codes, scale = checkpoint.ternary(name)
        site = name.removesuffix(".weight")
        assert codes.dtype == np.int8
        assert scale.dtype == np.float32
        assert (codes == expected.pop(f"{site}.codes")).all()
        # The order of a float32 summation is its author's choice.
        mean = expected.pop(f"{site}.mean_abs")
        assert abs(scale - mean) <= 2 * np.spacing(mean)
    assert not expected


def test_ternary_rounds_half_to_even(folder):
    weights = np.tile(np.array([0.5, -0.5, 1.5, -1.5, 0.75, -0.75, 2.5, 0], np.float32), (12, 1))
    save(folder, **{HEAD: weights})  # of mean magnitude 1
    codes, scale = Checkpoint.open(folder).ternary(HEAD)
    assert scale == 1
    assert (codes == [0, 0, 1, -1, 1, -1, 1, 0]).all()


def test_ternary_of_zeros(folder):
    save(folder, **{HEAD: np.zeros((12, 8), np.float32)})
    codes, scale = Checkpoint.open(folder).ternary(HEAD)
    assert scale == np.float32(1e-5)
    assert not codes.any()


def test_ternary_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "_CHUNK_VALUES", 1 << 12)
    config = SMALL | {"vocab_size": 1 << 16}
    write_config(tmp_path, config)
    save_file(tensors_of(config), tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)
    tracemalloc.start()
    codes, _ = checkpoint.ternary(HEAD)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < codes.nbytes + 100_000  # the tensor has 2 MiB


def test_lower_bounds(folder):
    bounds = Checkpoint.open(folder).lower_bounds()
    powers = np.exp(tensors_of(SMALL)["model.lower_bounds"].astype(np.float64))
    shares = powers / powers.sum(axis=0)
    assert bounds.dtype == np.float64
    assert not bounds[0].any()
    np.testing.assert_allclose(bounds[1], shares[0] + shares[1] - shares[0], rtol=1e-14)


def test_no_lower_bounds():
    assert not Checkpoint.open(DATA / "tiny-nolb").lower_bounds().any()


# Models that do not fit

def test_option_unsupported(folder):
    write_config(folder, SMALL | {"use_short_conv": True})
    refused(folder, r"^Option use_short_conv must be false, not True$", UnsupportedError)


def test_exit_codes():
    assert CheckpointError.exit_code == 8
    assert UnsupportedError.exit_code == 4



def test_tensor_missing(folder):
    save(folder, **{"model.norm.weight": None})
    refused(folder, r"has no tensor model.norm.weight; config.json asks for it$")


def test_tensor_shape_wrong(folder):
    save(folder, **{HEAD: np.zeros((8, 12), np.float32)})
    refused(folder, r"^Tensor lm_head.weight must have shape \(12, 8\) according to config.json, not \(8, 12\)$")


def test_tensor_unexpected(folder):
    save(folder, **{"model.layers.0.attn.h_conv1d.weight": np.zeros(3, np.float32)})
    refused(folder, r"has 1 tensors that a model of type hgrn_bit does not use, first 'model.layers.0.attn.h_c",
            UnsupportedError)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int8])
def test_tensor_storage_unsupported(folder, dtype):
    save(folder, **{HEAD: np.zeros((12, 8), dtype)})
    refused(folder, r"^Tensor lm_head.weight must be stored as F32, F16, BF16, not '(F64|U8|I8)'$",
            UnsupportedError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_not_finite(folder, value):
    weights = np.ones((12, 8), np.float32)
    weights[5, 3] = value
    save(folder, **{HEAD: weights})
    checkpoint = Checkpoint.open(folder)
    for read in (checkpoint.tensor, checkpoint.ternary):
        with pytest.raises(CheckpointError, match=r"^Tensor lm_head.weight must be finite, and has 1 values"):
            read(HEAD)
    assert (checkpoint.rows(HEAD, 0, 5) == 1).all()


# Files that are not what they should be

def test_folder_absent(tmp_path):
    refused(tmp_path / "absent", r"must be a folder with config.json and model.safetensors, and does not exist$")


def test_folder_is_file(folder):
    refused(folder / "model.safetensors", r"must be a folder .* and is a file$")


def test_config_absent(folder):
    (folder / "config.json").unlink()
    refused(folder, r"must have a config.json, and has none$")


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", '{"model_type": NaN}', '{"a": 1, "a": 2}', "\xff", "[" * 100_000, '{"a": ' + "9" * 5000,
])
def test_config_corrupt(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"config.json is corrupt: ")


def test_weights_absent(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, r"must have model.safetensors or model.safetensors.index.json, and has neither$")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt"])
def test_pickle_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, rf"must have model.safetensors, not {name}: pickled weights are never read because they can "
                    rf"run code; convert them .*save_file\(torch.load\('{name}', weights_only=True\)")


def test_gguf_refused(folder):
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")
    refused(folder, r"model-q4.gguf is a GGUF file; only safetensors is read")


def test_weights_named_otherwise(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    refused(folder, r"must name its weights model.safetensors, .* not 'weights.safetensors' alone$")


@pytest.mark.parametrize("start, message", [
    (b"GGUF\3\0\0\0" + bytes(64), r"is a GGUF file"),
    (b"PK\3\4" + bytes(64), r"is a pickled PyTorch archive, which is never read"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"is a Git LFS pointer"),
    (b"\x80\2}q\0." + bytes(64), r"is truncated or not a safetensors file"),
    (b"", r"is truncated or not a safetensors file: 0 bytes"),
])
def test_weights_foreign(folder, start, message):
    (folder / "model.safetensors").write_bytes(start)
    refused(folder, message)


def test_weights_truncated_anywhere(folder):
    octets = (folder / "model.safetensors").read_bytes()
    for length in [*range(12), 100, len(octets) // 2, len(octets) - 1]:
        (folder / "model.safetensors").write_bytes(octets[:length])
        refused(folder, r"is truncated or ")
    (folder / "model.safetensors").write_bytes(octets + b"\0")
    refused(folder, rf"is truncated or corrupt: it must have {len(octets)} bytes, not {len(octets) + 1}$")


def test_weights_truncated_while_open(folder):
    tensors = tensors_of(SMALL)
    last = list(tensors)[-1]
    octets = encode({name: ("F32", tensor.shape, tensor.tobytes()) for name, tensor in tensors.items()})
    (folder / "model.safetensors").write_bytes(octets)
    checkpoint = Checkpoint.open(folder)
    (folder / "model.safetensors").write_bytes(octets[:-4])
    with pytest.raises(CheckpointError, match=r"was cut while in use$"):
        checkpoint.tensor(last)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^Tensor lm_head.weight cannot be read: "):
        checkpoint.tensor(HEAD)


@pytest.mark.parametrize("header", [
    b"{", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}',
    b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [1, 1, 1, 1, 1, 1, 1, 1, 1], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
    b'{"a": {"dtype": "X", "shape": [1], "data_offsets": [4, 0]}}',
    b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
    b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
    b' "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    b'{"a": {"dtype": "F32", "shape": [' + b"9" * 40 + b'], "data_offsets": [0, 4]}}',
])
def test_header_corrupt(folder, header):
    (folder / "model.safetensors").write_bytes(with_header(header, bytes(4)))
    refused(folder, r"model.safetensors is corrupt: ")


# Shards

@pytest.fixture
def sharded(folder):
    """The same checkpoint in two shards."""
    tensors = tensors_of(SMALL)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, names in enumerate([list(tensors)[::2], list(tensors)[1::2]], 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    write_index(folder, weight_map)
    return folder


def write_index(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def read_index(folder):
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def test_sharded(sharded):
    checkpoint = Checkpoint.open(sharded)
    for name, tensor in tensors_of(SMALL).items():
        assert (checkpoint.tensor(name) == tensor).all()


def test_linked_files(sharded, tmp_path_factory):
    blobs = tmp_path_factory.mktemp("blobs")
    for path in sharded.iterdir():
        (blobs / path.name).write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(blobs / path.name)
    assert (Checkpoint.open(sharded).tensor(HEAD) == tensors_of(SMALL)[HEAD]).all()


@pytest.mark.parametrize("shard", [
    "../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "a\\b.safetensors",
    "C:x.safetensors", "\0.safetensors", "pytorch_model.bin", 7, None,
])
def test_index_leaves_folder(sharded, shard):
    write_index(sharded, read_index(sharded) | {HEAD: shard})
    refused(sharded, r"index.json must name .safetensors files of its own folder, not ")


def test_shard_absent(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, r"lacks model-00002-of-00002.safetensors, which its index names$")


def test_shard_lacks_tensor(sharded):
    write_index(sharded, read_index(sharded) | {"more": "model-00001-of-00002.safetensors"})
    refused(sharded, r"model-00001-of-00002.safetensors lacks tensor 'more', which its index places there$")


def test_tensor_in_another_shard(sharded):
    save_file({HEAD: tensors_of(SMALL)[HEAD]}, sharded / "extra.safetensors")
    write_index(sharded, read_index(sharded) | {"more": "extra.safetensors"})
    refused(sharded, r"extra.safetensors has tensor 'lm_head.weight', which its index does not place there$")


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "[]", "{"])
def test_index_corrupt(sharded, text):
    (sharded / "model.safetensors.index.json").write_text(text)
    refused(sharded, r"index.json (must have a weight_map|is corrupt)")


# Whatever the bytes, a checkpoint is read or refused, and nothing else happens.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5)


@pytest.fixture(scope="module")
def header_length():
    text = encode({name: ("F32", tensor.shape, tensor.tobytes()) for name, tensor in tensors_of(SMALL).items()})
    return 8 + struct.unpack("<Q", text[:8])[0]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_header_damage(header_length, data):
    octets = bytearray(encode({name: ("F32", tensor.shape, tensor.tobytes())
                               for name, tensor in tensors_of(SMALL).items()}))
    places = st.integers(0, 7) | st.integers(0, header_length - 1)
    for place, octet in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        octets[place] = octet
    del octets[data.draw(st.just(len(octets)) | st.integers(0, len(octets))):]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder, SMALL)
        (folder / "model.safetensors").write_bytes(octets)
        with contextlib.suppress(CheckpointError):
            checkpoint = Checkpoint.open(folder)
            for name in checkpoint.geometry.tensors:
                checkpoint.tensor(name)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(list(tensors_of(SMALL))),
                       st.fixed_dictionaries({"dtype": JSON, "shape": JSON, "data_offsets": JSON}) | JSON,
                       max_size=3))
def test_any_header(header):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder, SMALL)
        (folder / "model.safetensors").write_bytes(with_header(json.dumps(header).encode()))
        with pytest.raises(CheckpointError):
            Checkpoint.open(folder)


def test_never_writes(tmp_path):
    shutil.copytree(DATA / "tiny", tmp_path / "copy")
    before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*")}
    checkpoint = Checkpoint.open(tmp_path / "copy")
    checkpoint.ternary(HEAD)
    checkpoint.lower_bounds()
    assert {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*")} == before
