"""Tokens from files, logits into files."""

import contextlib
import io
import re

import numpy as np
import pytest

from terngen.host.arrays import check_tokens, logits_file, read_tokens
from terngen.host.errors import InputError, OutputError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.npy"


@pytest.mark.parametrize("tokens", [[5], [1, 2, 3], [[1, 2], [3, 4], [5, 6]]])
def test_tokens(path, tokens):
    np.save(path, np.array(tokens, np.int64))
    found = read_tokens(path)
    assert found.tolist() == tokens
    assert found.dtype == np.int64
    np.save(path, np.asfortranarray(np.array(tokens, np.int64)))
    assert read_tokens(path).tolist() == tokens


def saved(array, **options):
    octets = io.BytesIO()
    np.save(octets, array, **options)
    return octets.getvalue()


TOKENS = saved(np.arange(8))


def archive():
    octets = io.BytesIO()
    np.savez(octets, np.arange(8))
    return octets.getvalue()


@pytest.mark.parametrize("octets, message", [
    (b"",                         r" must be a \.npy file, but it begins with b''$"),
    (b"1 2 3\n",                  r" must be a \.npy file, but it begins with b'1 2 3\\n'$"),
    (archive(),                   r" must be a \.npy file, but it begins with b'PK\\x03\\x04"),
    (TOKENS[:6],                  r" must be an intact \.npy file: "),
    (TOKENS[:40],                 r" must be an intact \.npy file: "),
    (TOKENS[:-1],                 r" must be an intact \.npy file: "),
    (TOKENS.replace(b"(8,)", b"(9,)"), r" must be an intact \.npy file: "),
    (TOKENS.replace(b"descr", b"descx"), r" must be an intact \.npy file: "),
    (TOKENS.replace(b"'<i8'", b"'<q9'"), r" must be an intact \.npy file: "),
    (saved(np.array([1, "a"], object), allow_pickle=True), r" must be an intact \.npy file: "),
    (saved(np.arange(8, dtype=np.int32)),   r" must be int64, not int32; convert them with astype\(\"int64\"\)$"),
    (saved(np.arange(8, dtype=np.float64)), r" must be int64, not float64; "),
    (saved(np.arange(8, dtype=">i8")),      r" must be int64, not >i8; "),
    (saved(np.zeros(0, np.int64)),          r" must have shape \(T,\) or \(B, T\) with at least one .*, not \(0,\)$"),
    (saved(np.zeros((2, 0), np.int64)),     r" must have shape .*, not \(2, 0\)$"),
    (saved(np.array(3, np.int64)),          r" must have shape .*, not \(\)$"),
    (saved(np.zeros((1, 2, 3), np.int64)),  r" must have shape .*, not \(1, 2, 3\)$"),
])
def test_file_wrong(path, octets, message):
    path.write_bytes(octets)
    with pytest.raises(InputError, match="^Tokens " + re.escape(str(path)) + message):
        read_tokens(path)


def test_huge_claim(path):
    """A file that claims to be huge is refused before memory is touched."""
    path.write_bytes(saved(np.arange(8)).replace(b"(8,), }" + b" " * 20, b"(99999999999999999,), }    "))
    with pytest.raises(InputError, match=r" must be an intact \.npy file: "):
        read_tokens(path)


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match=rf"^Tokens {tmp_path}/none cannot be read: No such file or directory$"):
        read_tokens(tmp_path / "none")
    with pytest.raises(InputError, match=rf"^Tokens {tmp_path} cannot be read: Is a directory$"):
        read_tokens(tmp_path)


@pytest.mark.parametrize("tokens, place", [([0, 128], "128 at place 1"), ([-1, 5], "-1 at place 0"),
                                           ([[1, 2], [3, 1 << 40]], f"{1 << 40} at place 1, 1")])
def test_tokens_out_of_range(tokens, place):
    check_tokens(np.array([[0, 127]]), 128)
    with pytest.raises(InputError, match=rf"^Token must be from 0 to 127, not {place}$"):
        check_tokens(np.array(tokens), 128)


@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3)])
def test_logits_file(path, shape):
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with logits_file(path, shape) as write:
        for row in logits.reshape(-1, 3):
            assert not path.exists()
            write(row[None])
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, logits)


def test_logits_file_fails(path, tmp_path):
    with contextlib.suppress(ZeroDivisionError), logits_file(path, (4, 3)) as write:
        write(np.zeros((1, 3), np.float32))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError), logits_file(tmp_path / "none" / "x.npy", (4, 3)):
        pytest.fail("nothing to write to")
