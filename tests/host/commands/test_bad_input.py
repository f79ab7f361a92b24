"""Bad checkpoints, tapes and surroundings, for every command that meets them: one sentence, the documented
exit code, and nothing left behind."""

import re
import shutil
import sys

import pytest

from terngen.hw.contract.tape import Tape
from terngen.sim import verilate

COMMANDS = {
    "convert":    ["convert", "{model}", "-o", "out"],
    "disasm":     ["disasm", "{model}"],
    "logits":     ["logits", "{model}", "--tokens", "tokens.npy", "--out", "out"],
    "reference":  ["logits", "{model}", "--tokens", "tokens.npy", "--out", "out", "--device", "reference"],
    "perplexity": ["perplexity", "{model}", "--text", "text"],
    "accuracy":   ["accuracy", "{model}", "--text", "text", "--together"],
    "run":        ["run", "{model}", "--prompt", "x"],
    "bench":      ["bench", "{model}"],
    "demo":       ["demo", "--model", "{model}"],
    "generate":   ["generate", "--model", "{model}", "-o", "out"],
}
TAPES = [name for name in COMMANDS if name not in ("convert", "reference")]


def weights(change):
    def spoil(folder):
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
    return spoil


def option(old, new):
    def spoil(folder):
        path = folder / "config.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return spoil


def renamed(name):
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


CHECKPOINTS = {
    "truncated": (
        weights(lambda octets: octets[:-1]), 8,
        r".*model\.safetensors is truncated or corrupt: it must have \d+ bytes, not \d+$"),
    "cut in header": (
        weights(lambda octets: octets[:100]), 8, r".*model\.safetensors is truncated or not a safetensors file: "),
    "empty": (
        weights(lambda octets: b""), 8, r".*model\.safetensors is truncated or not a safetensors file: 0 bytes, "),
    "corrupted": (
        weights(lambda octets: octets[:8] + b"}" + octets[9:]), 8, r".*model\.safetensors is corrupt: "),
    "foreign": (
        weights(lambda octets: b"GGUF" + octets[4:]), 8, r".* is a GGUF file; only safetensors is read, so take "),
    "pickle": (
        renamed("pytorch_model.bin"), 8,
        r"Checkpoint .* must have model\.safetensors, not pytorch_model\.bin: pickled weights are never read because "
        r"they can run code; convert them where PyTorch is installed: python -c "),
    "another pickle": (
        renamed("model.pt"), 8, r"Checkpoint .* must have model\.safetensors, not model\.pt: pickled weights are "),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(), 8,
        r"Checkpoint .* must have model\.safetensors or model\.safetensors\.index\.json, and has neither$"),
    "no config": (
        lambda folder: (folder / "config.json").unlink(), 8, r"Checkpoint .* must have a config\.json, and has none$"),
    "config no JSON": (option("{", "["), 8, r".*config\.json is corrupt: "),
    "another shape": (option('"hidden_size": 64', '"hidden_size": 32'), 8, r"Tensor .* must have shape "),
    "another model": (
        option('"hgrn_bit"', '"llama"'), 4,
        r'Option model_type must be "hgrn_bit" \(MatMul-free LM\), not \'llama\'$'),
    "convolution": (
        option('"use_short_conv": false', '"use_short_conv": true'), 4,
        r"Option use_short_conv must be false, not True$"),
    "unknown option": (
        option('"use_cache": true', '"rope_theta": 10000'), 4,
        r"Option 'rope_theta' with value 10000 is not supported; supported are "),
}


@pytest.mark.parametrize("spoil, code, message", CHECKPOINTS.values(), ids=CHECKPOINTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_bad_checkpoint(refused, speaking, work, tokens, text, command, spoil, code, message):
    tokens(1, 2)
    folder = shutil.copytree(speaking, work / "model")
    spoil(folder)
    refused(*(word.format(model="model") for word in COMMANDS[command]), code=code, message=message)


@pytest.mark.parametrize("command", ["convert", "perplexity", "run", "demo"])
def test_bad_tokenizer(refused, speaking, work, tokens, text, command):
    """Found before anything that takes long, or is written."""
    folder = shutil.copytree(speaking, work / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    refused(*(word.format(model="model") for word in COMMANDS[command]), code=8, message=r".* cannot be read: ")


def replaced(place, octet):
    return lambda octets: octets[:place] + octet + octets[place:][len(octet):]


BAD_TAPES = {
    "empty":        (lambda octets: b"",            r"model\.tape is empty, not a tape$"),
    "short header": (lambda octets: octets[:20],    r"model\.tape is cut short in its header$"),
    "truncated":    (lambda octets: octets[:-1],    r"model\.tape must have \d+ octets, not \d+$"),
    "corrupted":    (replaced(30_000, b"\xa5"),     r"model\.tape is damaged: .* of section 'layer\.\d' is wrong$"),
    "header":       (replaced(40, b"\xa5"),         r"model\.tape is damaged: the check sum of its header is wrong$"),
    "tokenizer":    (replaced(-40, b"\xa5"),        r"model\.tape is damaged: .* of its tokenizer is wrong$"),
    "foreign":      (replaced(0, b"PK\x03\x04"),    r"model\.tape is not a tape: it begins with b'PK\\x03\\x04TAPE', "),
    "version":      (replaced(8, b"\x07"),          r"model\.tape is a tape of version 7, this program reads "),
}


@pytest.mark.parametrize("change, message", BAD_TAPES.values(), ids=BAD_TAPES)
@pytest.mark.parametrize("command", TAPES)
def test_bad_tape(refused, speaking_tape, work, tokens, text, command, change, message):
    tokens(1, 2)
    (work / "model.tape").write_bytes(change(speaking_tape.read_bytes()))
    refused(*(word.format(model="model.tape") for word in COMMANDS[command]), code=8, message=message)


@pytest.mark.parametrize("command", [name for name in TAPES if name not in ("demo", "generate")])
def test_wrong_machine(refused, speaking_tape, tokens, text, command):
    tokens(1, 2)
    words = [word.format(model=speaking_tape) for word in COMMANDS[command]]
    refused(*words, "--config", "wide", code=4,
            message=r"Tape .* was made for another machine \([0-9a-f]{32}: beat_bits = 64 instead of 256, "
                    r"row_lanes = 2 instead of 8, lanes = 2 instead of 8\); convert the checkpoint for [0-9a-f]{32}$")


def test_nonsense_on_the_tape(terngen, speaking_tape, work, tokens):
    """Check sums are right, descriptors are not: the machine says so, and no command falls over."""
    tape  = Tape.open(speaking_tape)
    marks = {**tape.marks, "layers": type(tape.marks["layers"])(0, tape.marks["layers"].start)}
    fake  = Tape(tape.config, tape.model, tape.sections, marks, tape.image, tape.tokenizer)
    (work / "fake.tape").write_bytes(fake.header() + bytes(fake.image) + fake.tokenizer)
    result = terngen("logits", "fake.tape", "--tokens", tokens(1), "--out", "out", code=8)
    assert result.stderr.startswith("Error: Tape cannot be played: ")
    result = terngen("run", "fake.tape", code=7)
    assert result.stderr.startswith("Error: golden machine met a descriptor that makes no sense to it; ")
    assert not (work / "out").exists()


SIM = [
    ["run", "{model}", "--device", "sim"],
    ["logits", "{model}", "--tokens", "tokens.npy", "--out", "out", "--device", "sim"],
    ["bench", "{model}"],
    ["demo", "--model", "{model}"],
]


@pytest.mark.parametrize("words", SIM, ids=lambda words: words[0])
def test_no_compiler(terngen, speaking_tape, tokens, work, monkeypatch, words):
    """Said at once, with the way out, and before Verilog is generated."""
    tokens(1)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(work))
    verilate._compiler.cache_clear()
    monkeypatch.setitem(sys.modules, "terngen.hw.top", None)        # generating would fail
    result = terngen(*(word.format(model=speaking_tape) for word in words), code=3)
    assert result.stderr == ("Error: No C++ compiler is here (g++, c++, clang++); install one (Debian and Ubuntu: "
                             "apt-get install g++), or name it in CXX\n")
    assert not (work / "out").exists()


@pytest.mark.parametrize("words", SIM, ids=lambda words: words[0])
def test_unwritable_cache(terngen, speaking_tape, tokens, work, monkeypatch, words):
    tokens(1)
    (work / "file").touch()
    monkeypatch.setenv("TERNGEN_CACHE_DIR", str(work / "file" / "cache"))
    result = terngen(*(word.format(model=speaking_tape) for word in words), code=9)
    assert re.fullmatch(r"Error: Compiled machines are kept in .*/file/cache/machines, which fails: Not a directory; "
                        r"set TERNGEN_CACHE_DIR to a folder with space\n", result.stderr)
