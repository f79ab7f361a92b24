"""Texts of `terngen run`."""

import re
import shutil

import pytest


def test_run(terngen, speaking, speaking_tape):
    """The prompt, then what follows; the same each time, from a checkpoint and from its tape."""
    result = terngen("run", speaking, "--prompt", "a fox", "--tokens", 12)
    found  = terngen("run", speaking_tape, "--prompt", "a fox", "--tokens", 12, "--json").values
    assert found.keys() == {"prompt", "text", "prompt_tokens", "tokens", "ended", "device", "seconds", "counters"}
    assert result.stdout == "a fox" + found["text"] + "\n"
    assert found["prompt_tokens"] == [1, 68, 3, 73, 82, 91]
    assert len(found["tokens"]) == 12 or found["ended"]
    assert found["device"] == "golden"
    assert found["counters"]["making"].keys() == {"cycles", "beats", "stall_tape", "stall_array", "stall_vector"}
    assert found["counters"]["making"]["beats"] > found["counters"]["reading"]["beats"] > 0
    assert re.fullmatch(r"\d+ tokens? in \d+\.\d s\n", result.stderr)


def test_run_without_prompt(terngen, speaking):
    """The token that begins a text is enough."""
    assert terngen("run", speaking, "--tokens", 1, "--json").values["prompt_tokens"] == [1]


def test_run_sampling(terngen, speaking):
    """Equal seeds tell equally; temperature and top-k make a difference."""
    def told(*words):
        return terngen("run", speaking, "--prompt", "x", "--tokens", 20, "--json", *words).values["tokens"]

    greedy = told()
    assert told("--temperature", 2, "--seed", 1) == told("--temperature", 2, "--seed", 1)
    assert told("--temperature", 2, "--seed", 1) != told("--temperature", 2, "--seed", 2)
    assert told("--temperature", 2, "--top-k", 1) == greedy


@pytest.mark.parametrize("device", ["golden", "sim"])
def test_run_is_drawn_by_the_machine(terngen, speaking, monkeypatch, device):
    """Machines that go on by themselves tell what the host draws step by step."""
    from terngen.host.device import Device
    words = ["run", speaking, "--prompt", "x", "--tokens", 20, "--temperature", 2, "--seed", 1, "--json"]

    def stepped(device, tokens, count, *, reset, stop, sampling):
        for _ in range(count):
            device.step(tokens, reset=reset)
            tokens, reset = {slot: sampling[slot].choose(device.results(slot)) for slot in tokens}, []
            yield tokens

    found = terngen(*words, "--device", device).values
    monkeypatch.setattr(Device, "decode", stepped)
    assert terngen(*words).values["tokens"] == found["tokens"]


def test_run_ends(terngen, speaking, work):
    """A model that ends a text ends the command; that token is no text."""
    tokens = terngen("run", speaking, "--prompt", "x", "--tokens", 5, "--json").values["tokens"]
    folder = shutil.copytree(speaking, work / "model")
    config = (folder / "config.json").read_text().replace('"eos_token_id": 2', f'"eos_token_id": {tokens[2]}')
    (folder / "config.json").write_text(config)
    found = terngen("run", folder, "--prompt", "x", "--tokens", 5, "--json").values
    assert found["ended"] is True
    assert found["tokens"] == tokens[:tokens.index(tokens[2])]


@pytest.mark.parametrize("words, code, message", [
    (["{tiny}"],                               8, r"Tape has no tokenizer, so it cannot read or write text; "),
    (["{speaking}", "--top-k", "9"],           4, r"Top-k must be at most 8, the candidates that this machine keeps, "),
    (["{speaking}", "--config", "onchip", "--temperature", "1"], 4, r"Machine keeps one candidate for each slot, wh"),
    (["{speaking}", "--top-k", "0"],           2, r"Invalid value for '--top-k'"),
    (["{speaking}", "--temperature", "nan"],   2, r"Invalid value for '--temperature': Temperature must be a number, "),
    (["{speaking}", "--temperature", "-1"],    2, r"Invalid value for '--temperature'"),
    (["{speaking}", "--temperature", "hot"],   2, r"Invalid value for '--temperature'"),
    (["{speaking}", "--seed", "-1"],           2, r"Invalid value for '--seed'"),
    (["{speaking}", "--tokens", "0"],          2, r"Invalid value for '--tokens'"),
    (["{speaking}", "--device", "reference"],  2, r"Invalid value for '--device': Device must be one of golden, sim, "),
    (["{speaking}", "--memory", "latency=2"],  2, r"Option --memory is for device sim, not golden\.$"),
    (["{speaking}", "--waveform", "x.vcd:0-9"], 2, r"Option --waveform is for device sim, not golden\.$"),
    (["{speaking}", "--device", "sim", "--waveform", "x.vcd"], 4, r"Waveform must be written like step\.vcd:1000-200"),
    (["{speaking}", "--device", "sim", "--waveform", "none/x.vcd:0-9"], 9, r"none/x\.vcd cannot be written: No such "),
    (["{speaking}", "--prompt", "a\udcff"],    8, r"Text must be Unicode, but character 1 is not: surrogates not "),
    (["{speaking}", "--device", "sim", "--memory", "speed=1"], 4, r".*speed"),
    (["{speaking}", "--device", "sim:speed=1"], 4, r".*speed"),
    (["{speaking}", "--device", "sim", "--memory", "latency=-3"], 4, r".*atency.*-3"),
])
def test_run_refused(refused, tiny, speaking, words, code, message):
    refused("run", *(word.format(tiny=tiny, speaking=speaking) for word in words), code=code, message=message)


def test_empty_prompt(refused, speaking, work):
    """A model without a token that begins a text needs a prompt."""
    folder = shutil.copytree(speaking, work / "model")
    config = (folder / "config.json").read_text().replace('"bos_token_id": 1', '"bos_token_id": null')
    (folder / "config.json").write_text(config)
    for device in ("golden", "sim"):
        refused("run", folder, "--device", device, code=8,
                message=r"Prompt must have at least one token, because this model has none that begins a text$")
