"""Parsers take whatever they are given: a stored corpus, findings of old, and a short search for new ones."""

import base64
import binascii
import importlib.util
import json
import subprocess
import sys

import pytest

from terngen.hw.contract.tape import MAGIC
from terngen.sim.fuzz.targets import TARGETS, seeds

PANIC = (b'{"model":{"type":"BPE","unk_token":"<","vocab":{"<":0,"A":1,".":2,"s":3,"t":10},"merges":[["s","t"]],'
         b'"cu":false}}')
#: Inputs that a parser has stumbled over.
FINDINGS = {
    "tape": [
        # A header without a digest, one without the name of its model, sections that are no objects.
        lambda: seeds("tape")[1].replace(b'"digest"', b'"digesu"'),
        lambda: seeds("tape")[1].replace(b'"name": "m"', b'"game": "m"'),
        lambda: seeds("tape")[1].replace(b'"marks": {', b'"marks": [').replace(b'"head": [8, 4]}', b'"head", [8, 4]]'),
    ],
    "tokenizer": [
        lambda: seeds("tokenizer")[0].replace(b'"unk_token": "A"', b'"unk_token": ")"'),
        # Pieces that join to one that the vocabulary does not have: the core of the library panics.
        lambda: PANIC,
    ],
}


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(root, target):
    """Every input that once reached something new."""
    inputs = [base64.b64decode(line) for line in (root / "tests/data/fuzz" / f"{target}.txt").read_text().split()]
    assert len(inputs) >= 5
    for octets in [*seeds(target), *inputs]:
        TARGETS[target](octets)


@pytest.mark.parametrize("target, make", [(target, make) for target, makes in FINDINGS.items() for make in makes])
def test_findings(target, make):
    assert make() not in seeds(target), "the seed has changed, and the finding with it"
    TARGETS[target](make())


def nested(depth):
    return b"[" * depth + b"]" * depth


def header(octets):
    """The beginning of a tape, with a check sum that is right."""
    numbers = (1, len(octets), binascii.crc32(octets), 0)
    return MAGIC + b"".join(number.to_bytes(4, "little") for number in numbers)


def sized(octets):
    """The beginning of a file of tensors."""
    return len(octets).to_bytes(8, "little") + octets


def tensor(shape, end):
    return sized(json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode())


def changed(name, **values):
    """A sound input, in JSON, with other values."""
    return json.dumps(json.loads(seeds(name)[0]) | values).encode()


#: Inputs that say they are large, or lead deep; most of them are small.
BOMBS = {
    "frames":     [bytes([255]) * 1_000_000, b"\0" * 1_000_000, b"\xff" + b"\1" * 500_000 + b"\0"],
    "cobs":       [b"\0" * 1_000_000, b"\xff" * 1_000_000, bytes(range(256)) * 2000],
    "tape":       [b"\2" + b"\xff" * 100, b"TERNTAPE" + (1).to_bytes(4, "little") + b"\xff" * 12,
                   *(header(body) + body for body in (
                       nested(100_000), b"1" * 100_000, b'{"image": 281474976710655, "tokenizer": 281474976710655}',
                       b'{"sections": [' + b'["a",0,281474976710655,0],' * 20_000 + b'["a",0,0,0]]}')),
                   *(seeds("tape")[1].replace(old, new) for old, new in (
                       (b'"hidden": 256', b'"hidden": 16384'), (b'"state": 2048', b'"state": 1048576'),
                       (b'"vocab_size": 4', b'"vocab_size": 999999999999'),
                       (b'"layers": [8, 0]', b'"layers": [0, 281474976710655]'),
                       (b'"head": [8, 4]', b'"head": [8, 281474976710655]')))],
    "tensors":    [b"\xff" * 8, ((1 << 63) - 1).to_bytes(8, "little"), sized(nested(100_000)), sized(b"1" * 100_000),
                   tensor([1 << 31, 1 << 31], 16), tensor([1 << 62], 1 << 63), tensor([1] * 10_000, 4),
                   tensor([10 ** 400], 16), tensor([4], 1 << 62), sized(b"{" + b'"a":{},' * 50_000 + b'"b":{}}')],
    "checkpoint": [nested(100_000), b"9" * 100_000,
                   *(changed("checkpoint", **{name: value})
                     for name in ("num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size", "num_heads")
                     for value in (1 << 31, 10 ** 30, -1))],
    "config":     [b" " + nested(100_000), b" " + b"9" * 100_000, b"!x = " + nested(50_000), b"!" + b"[a." * 30_000,
                   b"!a = " + b"9" * 100_000, b"!" + b"a." * 20_000 + b"b = 1",
                   *(b' {"%s": %s}' % (name, value) for name in (b"slots", b"hidden", b"state", b"history", b"top_k")
                     for value in (b"1048576", b"1" * 400))],
    "tokenizer":  [nested(100_000), changed("tokenizer", added_tokens=[{"id": 1 << 31, "content": "a"}] * 1000),
                   changed("tokenizer", model={"type": "WordLevel", "vocab": {"A": (1 << 32) - 1}, "unk_token": "A"}),
                   changed("tokenizer", truncation={"max_length": 1 << 62, "strategy": "LongestFirst", "stride": 0},
                           padding={"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_to_multiple_of": None,
                                    "pad_id": 0, "pad_type_id": 0, "pad_token": "A"})],
    "bodies":     [*(bytes([kind]) + body for kind in range(4) for body in (nested(100_000), b"9" * 100_000)),
                   b'\0{"prompt": "A", "max_tokens": 1' + b"0" * 300 + b"}",
                   b'\0{"prompt": "' + b"A" * 500_000 + b'"}',
                   b'\0{"prompt": [' + b"3," * 300_000 + b"3]}",
                   b'\0{"prompt": "A", "stop": [' + b'"b",' * 100_000 + b'"b"]}',
                   b'\1{"messages": [' + b",".join([b'{"role": "user", "content": "a"}'] * 20_000) + b"]}",
                   b'\2{"content": "' + b"\\u4e2d" * 100_000 + b'"}', b'\3{"tokens": [' + b"9" * 5000 + b"]}",
                   b'\3{"tokens": [' + b"5," * 300_000 + b"5]}"],
}

#: Gives each input, a line in base64, to a target; more memory than the input is worth ends it, and so does more time.
BOUNDED = """
import base64, gc, resource, sys, time
from terngen.sim.fuzz.targets import TARGETS, seeds
target = TARGETS[sys.argv[1]]
for octets in seeds(sys.argv[1]):
    target(octets)
for number, line in enumerate(sys.stdin):
    octets = base64.b64decode(line)
    gc.collect()
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * len(octets) + (64 << 20), resource.RLIM_INFINITY))
    begin = time.process_time()
    target(octets)
    seconds = time.process_time() - begin
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert seconds < 2, (number, octets[:100], seconds)
"""


@pytest.mark.parametrize("target", TARGETS)
def test_bounds(target):
    """Two seconds, and twice the input and 64 MB of memory, whatever an input says of its own size."""
    lines = "".join(f"{base64.b64encode(octets).decode()}\n" for octets in BOMBS[target])
    done  = subprocess.run([sys.executable, "-c", BOUNDED, target], input=lines, capture_output=True, text=True,
                           timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_bounds_are_felt():
    """A parser that believes what is said is found out."""
    program = BOUNDED.replace("target = TARGETS[sys.argv[1]]",
                              "target = lambda octets: bytes(int.from_bytes(octets[:4], 'little'))", 1)
    program = program.replace("for octets in seeds(sys.argv[1]):\n    target(octets)\n", "")
    for size, fails in ((1 << 20, False), (1 << 27, True)):
        done = subprocess.run([sys.executable, "-c", program, "tape"], capture_output=True, text=True, timeout=60,
                              input=base64.b64encode(size.to_bytes(4, "little")).decode() + "\n", check=False)
        assert ("MemoryError" in done.stderr) is fails


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this system")
@pytest.mark.parametrize("target", TARGETS)
def test_search(root, tmp_path, target):
    """A few thousand inputs that nobody has seen; ``make fuzz`` tries many more."""
    done = subprocess.run([sys.executable, "-m", "terngen.sim.fuzz", target, "--runs", "4000", "--seconds", "10",
                           "--begin", root / "tests/data/fuzz" / f"{target}.txt"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr
    assert not list(tmp_path.iterdir())


def test_search_finds(tmp_path):
    """A parser that is wrong for some input is found out."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this system")
    script = tmp_path / "wrong.py"
    script.write_text(
        "import json, sys\n"
        "from terngen.sim.fuzz import targets\n"
        "targets.TARGETS['config'] = lambda octets: json.loads(octets) if octets[:1] == b'{' else None\n"
        "sys.argv = ['fuzz', 'config', '--runs', '20000']\n"
        "from terngen.sim.fuzz.__main__ import main\n"
        "main()\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode != 0
    assert "JSONDecodeError" in done.stdout + done.stderr
    assert list(tmp_path.glob("config-crash-*"))
