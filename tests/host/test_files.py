"""Files that appear whole or not at all."""

import contextlib
import os
import stat
import threading

import pytest

from terngen.host.errors import OutputError
from terngen.host.files import cache_dir, output_folder, replacing, write_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", [None, b"old"])
def test_replacing(tmp_path, before):
    path = tmp_path / "out"
    if before is not None:
        path.write_bytes(before)
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert (path.read_bytes() if path.exists() else None) == before
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_replacing_fails(tmp_path, before):
    path = tmp_path / "out"
    if before is not None:
        path.write_bytes(before)
    with contextlib.suppress(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ([] if before is None else ["out"])
    assert before is None or path.read_bytes() == before


def test_link_stays(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


def test_pipe(tmp_path):
    """What is no file is written to as it is."""
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    with replacing(path) as file:
        file.write(b"through")
    reader.join()
    assert found == [b"through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_full(tmp_path):
    with pytest.raises(OutputError, match=r"^/dev/full cannot be written: No space left on device$"):
        with replacing("/dev/full") as file:
            file.write(bytes(1 << 20))


def test_no_folder(tmp_path):
    with pytest.raises(OutputError, match=rf"^{tmp_path}/none/out cannot be written: No such file or directory$"):
        with replacing(tmp_path / "none" / "out"):
            pytest.fail("nothing to write to")
    with pytest.raises(OutputError, match=rf"^{tmp_path} cannot be written: It is not a file$"):
        with output_folder(tmp_path):
            pytest.fail("nothing to write to")
    assert names(tmp_path) == []


def test_write_folder(tmp_path):
    folder = tmp_path / "deep" / "er"
    write_folder(folder, {"a.v": b"module", "manifest.json": b"{}"})
    (folder / "other").touch()
    write_folder(folder, {"a.v": b"module 2", "manifest.json": b"{2}"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "a.v": b"module 2", "manifest.json": b"{2}", "other": b""}


def test_write_folder_fails(tmp_path):
    """A manifest never stands beside files that it does not describe."""
    write_folder(tmp_path, {"a.v": b"module", "manifest.json": b"{}"})
    (tmp_path / "a.v").unlink()
    (tmp_path / "a.v").mkdir()          # cannot be replaced by a file
    with pytest.raises(OutputError, match=rf"^{tmp_path} cannot be written: Is a directory$"):
        write_folder(tmp_path, {"a.v": b"module 2", "manifest.json": b"{2}"})
    assert names(tmp_path) == ["a.v"]
    with pytest.raises(OutputError, match=r"^/dev/null cannot be written: "):
        write_folder("/dev/null", {"a.v": b""})


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("TERNGEN_CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "terngen"
