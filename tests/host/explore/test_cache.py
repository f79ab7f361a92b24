"""Results that are kept."""

import os

import pytest

from terngen.host.errors import OutputError
from terngen.host.explore.cache import Cache, canonical, key_of


def test_kept(tmp_path):
    cache = Cache(tmp_path / "explore")
    key   = key_of(b"task")
    assert cache.get(key) is None
    cache.put(key, b"a\nresult\n")
    assert cache.get(key) == b"a\nresult\n"
    assert cache.get(key_of(b"another")) is None
    cache.put(key, b"again")
    assert cache.get(key) == b"again"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [key]


@pytest.mark.parametrize("spoil", [lambda octets: octets[:-1], lambda octets: octets[:20], lambda octets: b"",
                                   lambda octets: octets.replace(b"result", b"nonsense")])
def test_damaged(tmp_path, spoil):
    """What was damaged on the disk is none."""
    cache = Cache(tmp_path)
    cache.put(key := key_of(b"task"), b"result")
    path = next(path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(spoil(path.read_bytes()))
    assert cache.get(key) is None


def test_no_folder(tmp_path):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file")
    assert cache.get(key_of(b"task")) is None
    with pytest.raises(OutputError, match=r"^Results are kept in .*file, which fails: .*; set TERNGEN_CACHE_DIR"):
        cache.put(key_of(b"task"), b"result")


def test_no_space(tmp_path, monkeypatch):
    """Nothing half-written is left."""
    cache = Cache(tmp_path)

    def replace(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", replace)
    with pytest.raises(OutputError, match="No space left on device"):
        cache.put(key_of(b"task"), b"result")
    assert not any(files for _, _, files in os.walk(tmp_path))


def test_canonical():
    assert canonical({"b": 1.5, "a": [1, None]}) == canonical({"a": [1, None], "b": 1.5}) == b'{"a":[1,null],"b":1.5}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))
