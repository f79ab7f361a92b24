"""Commands on the simulated machine, and the gate of `terngen bench` and `terngen demo`."""

import re

import numpy as np
import pytest


def test_sim(terngen, speaking, speaking_tape, tokens, work):
    """What the generated machine says is what the golden machine says, to the last bit."""
    tokens(5, 77, 9)
    for device in ("golden", "sim"):
        terngen("logits", speaking, "--tokens", "tokens.npy", "--out", device, "--device", device)
    assert (work / "golden").read_bytes() == (work / "sim").read_bytes()
    words  = ["run", speaking_tape, "--prompt", "a fox", "--tokens", 6, "--temperature", 1, "--seed", 4, "--json"]
    golden = terngen(*words).values
    sim    = terngen(*words, "--device", "sim", "--memory", "latency=30,refresh_period=200,refresh_pause=20").values
    for name in ("text", "tokens", "ended", "prompt_tokens"):
        assert sim[name] == golden[name]
    assert sim["counters"]["making"]["beats"] == golden["counters"]["making"]["beats"]
    assert sim["counters"]["making"]["cycles"] > sim["counters"]["making"]["beats"]
    assert sim["counters"]["making"]["stall_tape"] > golden["counters"]["making"]["stall_tape"] == 0


def test_bench(terngen, tiny):
    found = terngen("bench", tiny, "--tokens", 3, "--json").values
    assert found.keys() >= {"gate", "values_compared", "mismatches", "cycles_per_token", "tape_bytes_per_token",
                            "peak_bytes_per_cycle", "attainment", "slots", "sim_cycles_per_second"}
    assert (found["gate"], found["mismatches"], found["slots"], found["tokens"]) == ("pass", 0, 1, 3)
    assert found["values_compared"] > 3 * 7000
    assert found["attainment"] == pytest.approx(found["tape_bytes_per_token"] / found["cycles_per_token"]
                                                / found["peak_bytes_per_cycle"])
    assert 0 < found["attainment"] <= 1
    lines = terngen("bench", tiny, "--tokens", 1, "--device", "sim:latency=9").stdout.splitlines()
    assert re.fullmatch(r"gate +pass: \d[\d,]+ values compared, 0 differ", lines[0])
    assert re.fullmatch(r"attainment +\d+\.\d % of the memory's peak", lines[5])


def test_bench_changed(terngen, tiny):
    """Another machine for a checkpoint."""
    found = terngen("bench", tiny, "--tokens", 1, "--beat-bits", 32, "--lanes", 1, "--json").values
    assert (found["gate"], found["peak_bytes_per_cycle"]) == ("pass", 4)


def test_bench_prompt(terngen, tiny, monkeypatch):
    """A prompt is read with as many tokens in a pass as there are slots, and leaves what one by one would."""
    words = ["bench", tiny, "--tokens", 1, "--slots", 3, "--prompt", 7]
    found = terngen(*words, "--json").values
    assert (found["gate"], found["prompt_tokens"]) == ("pass", 7)
    # Three passes, without the head.
    assert found["cycles_per_prompt_token"] < 3 / 7 * found["cycles_per_token"]
    assert found["prompt_speedup"] > 1
    assert f"{found['prompt_speedup']:.2f} times as fast" in terngen(*words).stdout

    from terngen.host.device import Device
    prefill = Device.prefill
    monkeypatch.setattr(Device, "prefill", lambda self, tokens: prefill(self, tokens[::-1]))
    result = terngen(*words, "--json", code=6)
    assert "Error: Prompt must leave the same candidates in one pass as token by token, but [" in result.stderr
    assert result.values["gate"] == "fail"


def test_bench_striped(terngen, tiny):
    """A tape over four memories, each with latencies of its own."""
    found = terngen("bench", tiny, "--tokens", 1, "--memory", "channels=4,latency=20,jitter=10", "--json").values
    assert (found["gate"], found["mismatches"]) == ("pass", 0)


@pytest.mark.parametrize("command", ["bench", "demo"])
@pytest.mark.parametrize("as_json", [False, True])
def test_failed_gate(terngen, speaking_tape, monkeypatch, command, as_json):
    """The first difference is named, no speed is told, and the exit code is 6."""
    from terngen.sim.device import SimTransport
    events = SimTransport.events

    def spoilt(self):
        found = events(self)
        place = np.flatnonzero(found["op"] == 9)        # GLU
        if len(place):
            found["value"][place[7], 1] ^= 4
        return found

    monkeypatch.setattr(SimTransport, "events", spoilt)
    words  = ["bench", speaking_tape] if command == "bench" else ["demo", "--model", speaking_tape]
    result = terngen(*words, "--tokens", 4, *(["--json"] if as_json else []), code=6)
    sentence = re.search(r"^Error: Machine and golden machine must compute the same numbers, but 1 of \d+ differ, the "
                         r"first in step (\d+), GLU at beat (\d+) \((256 elements, weights follow, .*)\), slot 0, "
                         r"element 15, field value: golden machine (\d+), device (\d+)$", result.stderr, re.MULTILINE)
    assert sentence
    assert int(sentence[4]) ^ int(sentence[5]) == 4
    if as_json:
        found = result.values
        assert found.keys() == {"gate", "values_compared", "mismatches", "slots", "first"}
        assert (found["gate"], found["mismatches"]) == ("fail", 1)
        assert (found["first"]["beat"], found["first"]["element"]) == (int(sentence[2]), 15)
    else:
        assert not re.search("cycles|attainment|per second", result.stdout)


def test_demo(terngen, speaking):
    """A story, figures, and one JSON object where that is wanted."""
    words = ["demo", "--model", speaking, "--tokens", 10, "--prompt", "a fox", "--seed", 3]
    found = terngen(*words, "--json").values
    assert found["made"] == 10
    assert (found["gate"], found["mismatches"]) == ("pass", 0)
    lines = terngen(*words).stdout
    for part in found["text"].split("\n\n"):
        assert part in lines
    assert "a fox" in found["text"]
    assert re.search(r"^Products +exact, in multipliers$", lines, re.MULTILINE)
    assert re.search(r"^gate +pass: [\d,]+ values compared, 0 differ$", lines, re.MULTILINE)
    assert re.search(r"^attainment +\d+\.\d % ", lines, re.MULTILINE)


def test_demo_without_multiplier(terngen, speaking):
    """What `make demo-lmul` does, with a smaller model."""
    words = ["demo", "--model", speaking, "--tokens", 6, "--prompt", "a fox", "--multiplier", "lmul"]
    found = terngen(*words, "--json").values
    assert found["made"] == 6
    assert (found["gate"], found["mismatches"]) == ("pass", 0)
    assert re.search(r"^Products +lmul: additions, and no multiplier in the whole machine$", terngen(*words).stdout,
                     re.MULTILINE)
    # Whoever plays the same model on a golden machine with L-Mul gets the text.
    run = ["run", speaking, "--prompt", "a fox", "--tokens", 6, "--temperature", 0.7, "--seed", 1, "--json"]
    assert "a fox" + terngen(*run, "--multiplier", "lmul").values["text"] in found["text"]


@pytest.mark.long
def test_demo_lmul_shipped(root, terngen):
    """`make demo-lmul`, shorter."""
    found = terngen("demo", "--model", root / "models" / "fairy-5m-lmul", "--multiplier", "lmul", "--tokens", 10,
                    "--json").values
    assert found["made"] == 10
    assert (found["gate"], found["mismatches"]) == ("pass", 0)
    assert found["text"].startswith("Once upon a time")

