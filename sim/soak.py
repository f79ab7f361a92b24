"""Long runs on a line with faults: is anything ever wrong that nobody noticed?

``python -m terngen.sim.soak frames CHECKPOINT`` exercises the link, ``... tokens CHECKPOINT`` the whole machine. The
latter stores what it has played, part by part, and goes on there the next time: ``--store docs/soak.json``.
"""

import binascii
import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from terngen.host import configs
from terngen.host.commands.console import Progress, emit, table
from terngen.host.compile import compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.errors import DeviceError, GateError
from terngen.host.files import replacing
from terngen.host.sampling import Sampling
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Tape
from terngen.sim.bench import Bench
from terngen.sim.device import SimTransport, machine_verilog
from terngen.sim.faults import Faults
from terngen.sim.memory import MemoryModel
from terngen.sim.performance import fill

__all__ = ["page", "soak_frames", "soak_tokens", "stored_tokens"]

#: Registers that a host sets and that nothing else changes.
_KEPT = tuple(range(Reg.EMBED_START.value, Reg.DRAW.value, 4))
#: Octets of the memory that is written.
_OCTETS = 1 << 16
#: Beats of the longest write.
_BEATS = 600
#: Tokens of a part that is stored; another number makes other parts.
PART = 1000


class _Link:
    """A machine whose memory and registers are known."""

    def __init__(self, config: Config, faults: Faults) -> None:
        self.transport = SimTransport(config, faults=faults, link_stall=0.05, seed=faults.seed)
        self._rng      = np.random.default_rng(faults.seed)
        self._beat     = config.beat_bytes
        self._memory   = bytearray(_OCTETS)
        self._kept     = dict.fromkeys(_KEPT, 0)
        self._digest   = config.digest
        #: Calls that said all was well, and what they left was not; of how many.
        self.wrong, self.calls = 0, 0
        #: Most simulated seconds that a call took.
        self.longest = 0.0
        # A memory holds noise until it is written.
        self.transport.write(regs.TAPE_BASE, bytes(_OCTETS))
        self.transport.write(_KEPT[0], bytes(4 * len(_KEPT)))

    def call(self) -> None:
        """Ask the machine for something, and look at what it did."""
        start = self.transport.pipe.clock()
        match int(self._rng.integers(5)):
            case 0:
                sound = self._write_memory()
            case 1 | 2:
                sound = self._write_registers()
            case 3:
                sound = self.transport.read(Reg.DIGEST.value, len(self._digest)) == self._digest
            case _:
                sound = self._check()
        self.longest = max(self.longest, self.transport.pipe.clock() - start)
        self.calls  += 1
        self.wrong  += not sound

    def _write_memory(self) -> bool:
        """Some long or short pieces, which often overlap: one that came twice would be seen."""
        low, high = _OCTETS, 0
        for _ in range(int(self._rng.integers(1, 8))):
            beats  = min(int(self._rng.geometric(0.1)), _BEATS)
            within = _OCTETS // self._beat - beats if self._rng.random() < 0.3 else 8
            place  = self._beat * int(self._rng.integers(within))
            octets = self._rng.bytes(self._beat * beats)
            self.transport.write(regs.TAPE_BASE + place, octets)
            self._memory[place:place + len(octets)] = octets
            low, high = min(low, place), max(high, place + len(octets))
        # Before the answer to a read, and not before that to a write, all has arrived.
        self.transport.read(Reg.MAGIC.value, 4)
        low, high = max(0, low - 64), min(_OCTETS, high + 64)
        return self.transport.model.memory_read(low, high - low) == self._memory[low:high]

    def _write_registers(self) -> bool:
        """Some that follow each other; then all are read."""
        first = int(self._rng.integers(len(_KEPT)))
        count = int(self._rng.integers(1, len(_KEPT) - first + 1))
        words = self._rng.integers(0, 1 << 32, count, np.uint32).astype("<u4")
        self.transport.write(_KEPT[first], words.tobytes())
        self._kept.update(zip(_KEPT[first:], words.tolist(), strict=False))
        read = self.transport.read(_KEPT[0], 4 * len(_KEPT))
        return read == np.array([*self._kept.values()], "<u4").tobytes()

    def _check(self) -> bool:
        """Let the machine read a part of its memory back."""
        count = int(self._rng.integers(1, 32))
        first = int(self._rng.integers(_OCTETS // self._beat - count))
        part  = np.array([first, count], "<u4")
        self.transport.write(Reg.PLAY_START.value, part.tobytes())
        self._kept.update(zip((Reg.PLAY_START.value, Reg.PLAY_COUNT.value), part.tolist(), strict=True))
        self.transport.write(Reg.CHECK.value, b"\1\0\0\0")
        self.transport.read(Reg.WAIT.value, 4)
        octets = self._memory[first * self._beat:(first + count) * self._beat]
        return int.from_bytes(self.transport.read(Reg.CRC.value, 4), "little") == binascii.crc32(octets)

    def whole(self) -> bool:
        """Whether the memory is what it should be, everywhere."""
        return self.transport.model.memory_read(0, _OCTETS) == self._memory


def soak_frames(config: Config, faults: Faults, frames: int,
                progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Let frames go to a machine and back, through faults, until there have been so many.

    Memory and registers are written, read, and found again by the machine itself; after each call everything it
    touched is compared.

    Raises
    ------
    LinkError
        If the link was given up.
    """
    link = _Link(config, faults)
    line, transport = link.transport.line, link.transport
    begun = time.monotonic()
    try:
        while line.frames < frames:
            link.call()
            if link.calls % 64 == 0:
                progress(min(line.frames, frames), frames)
        return {
            "rate":            faults.rate,
            "frames":          line.frames,
            "faults":          sum(line.counts.values()),
            "kinds":           dict(sorted(line.counts.items())),
            "resends":         transport.resends,
            "dropped":         transport.drops,
            "stale":           transport.stale,
            "calls":           link.calls,
            "silent":          link.wrong + (not link.whole()),
            "longest_seconds": link.longest,
            "seconds":         time.monotonic() - begun,
        }
    finally:
        transport.close()


def soak_tokens(tape: Tape, faults: Faults, tokens: int,
                progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Let a machine take tokens in slots that come and go, until there have been so many; everything stalls.

    Steps, prompts and texts that the machine makes by itself are mixed at random, and every value of every step is
    compared with the golden machine's.

    Raises
    ------
    GateError
        At the first value that differs.
    LinkError
        If the link was given up.
    """
    rng    = np.random.default_rng(faults.seed)
    memory = MemoryModel(latency=17, refresh_period=701, refresh_pause=43, stall=0.15)
    slots  = tape.config.slots
    vocab  = tape.model["vocab_size"]
    begun  = time.monotonic()
    done   = 0
    with Bench(tape, memory=memory, link_stall=0.1, faults=faults, seed=faults.seed) as bench:
        device = bench.device
        device.load()
        device.step({slot: slot for slot in range(slots)}, reset=range(slots))
        done += slots
        while done < tokens:
            taking = [slot for slot in range(slots) if rng.random() < 0.6] or [int(rng.integers(slots))]
            given  = {slot: int(rng.integers(vocab)) for slot in taking}
            fresh  = [slot for slot in taking if rng.random() < 0.1]
            match int(rng.integers(4)):
                case 0:
                    prompt = rng.integers(0, vocab, int(rng.integers(1, 4 * slots))).tolist()
                    device.prefill(prompt, state=taking[0], reset=bool(fresh))
                    done += len(prompt)
                case 1:
                    sampling = {slot: Sampling(temperature=float(rng.random() * (rng.random() < 0.6)),
                                               seed=int(rng.integers(1 << 32))) for slot in taking}
                    made  = list(device.decode(given, int(rng.integers(1, 8)), reset=fresh, sampling=sampling))
                    done += sum(map(len, made))
                case _:
                    device.step(given, reset=fresh, head=bool(rng.random() < 0.8))
                    done += len(given)
            if bench.checked.mismatches:
                raise GateError(f"Values must equal the golden machine's, but {bench.checked.first}")
            progress(min(done, tokens), tokens)
        device.verify()
        line = bench.simulated.line
        return {
            "rate":            faults.rate,
            "tokens":          done,
            "slots":           slots,
            "values_compared": bench.checked.values_compared,
            "wrong":           bench.checked.mismatches,
            "frames":          line.frames,
            "faults":          sum(line.counts.values()),
            "kinds":           dict(sorted(line.counts.items())),
            "resends":         bench.simulated.resends,
            "seconds":         time.monotonic() - begun,
        }


def stored_tokens(tape: Tape, faults: Faults, tokens: int, store: Path, name: str,
                  progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """As :func:`soak_tokens`, in parts of :data:`PART` tokens, each with a seed of its own, the first that of `faults`.

    What has been played by the same gateware, at this rate, is in the file `store`, and counts; each part that ends is
    added to it. Interrupting loses a part. `name` is that of the model.
    """
    machine = hashlib.sha256(machine_verilog(tape.config).encode()).hexdigest()[:16]
    known   = {"checkpoint": name, "machine": machine, "rate": faults.rate, "slots": tape.config.slots, "part": PART}
    rows    = json.loads(store.read_text()) if store.exists() else []
    others  = [row for row in rows if (row["checkpoint"], row["rate"]) != (name, faults.rate)]
    row     = next((row for row in rows if known.items() <= row.items() and row["seeds"][0] == faults.seed), None)
    while row is None or row["tokens"] < tokens:
        seed = faults.seed if row is None else row["seeds"][1] + 1
        done = row["tokens"] if row else 0
        try:
            part = soak_tokens(tape, dataclasses.replace(faults, seed=seed), PART,
                               lambda more, _, done=done: progress(min(done + more, tokens), tokens))  # type: ignore[misc]
        except DeviceError as error:
            raise type(error)(f"With seed {seed}: {error}") from error
        row  = _joined({**known, "seeds": [faults.seed, seed]}, row, part)
        with replacing(store) as file:
            file.write((json.dumps([*others, row], indent=1) + "\n").encode())
    return row


def _joined(known: dict[str, Any], row: Mapping[str, Any] | None, part: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of all parts: counts are added."""
    sums = {key: value + (row[key] if row else 0) for key, value in part.items()
            if key not in known and key != "kinds"}
    kinds = Counter(part["kinds"]) + Counter(row["kinds"] if row else {})
    return {**known, **sums, "kinds": dict(sorted(kinds.items())), "seconds": round(sums["seconds"], 1)}


def page(text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page whose table says what is stored."""
    return fill(text, "soak", [
        "| faults per octet | tokens | values compared | wrong | frames | faults | sent again | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|---|", *(
            f"| {row['rate']:g} | {row['tokens']:,} | {row['values_compared']:,} | {row['wrong']} "
            f"| {row['frames']:,} | {row['faults']:,} | {row['resends']:,} | {row['seeds'][0]} to {row['seeds'][1]} |"
            for row in rows)])


@click.group()
def main() -> None:
    """Long runs on a line with faults."""


_checkpoint = click.argument("checkpoint", type=click.Path(path_type=Path))
_rates      = click.option("--rate", "rates", type=click.FloatRange(0, 0.1), multiple=True, default=[1e-3],
                           show_default=True, help="Faults for each octet, each way; may be repeated.")
_seed       = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all chance.")
_slots      = click.option("--slots", type=click.IntRange(min=1), default=3, show_default=True, help="Of the machine.")
_json       = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def _soak(checkpoint: Path, slots: int, rates: tuple[float, ...], seed: int, what: str,
          run: Callable[[Tape, Faults, Callable[[int, int], None]], dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        model  = Checkpoint.open(checkpoint)
        config = configs.model_config(model.geometry, "small", slots=slots)
        with TemporaryDirectory() as folder, Progress() as progress:
            path = Path(folder, "model.tape")
            compile_tape(model, config, path)
            tape = Tape.open(path)
            return [run(tape, Faults(rate, seed=seed),
                        lambda done, total, rate=rate: progress(f"{what}, {rate:g}", done, total))  # type: ignore[misc]
                    for rate in rates]
    except (DeviceError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@main.command("frames")
@_checkpoint
@click.option("--frames", type=click.IntRange(min=1), default=10_000, show_default=True, help="For each rate.")
@_rates
@_seed
@_slots
@_json
def frames_command(checkpoint: Path, frames: int, rates: tuple[float, ...], seed: int, slots: int,
                   as_json: bool) -> None:
    """Whatever a line does to frames, memory and registers are what the host was told."""
    rows = _soak(checkpoint, slots, rates, seed, "frames",
                 lambda tape, faults, progress: soak_frames(tape.config, faults, frames, progress))
    emit(as_json, {"runs": rows}, table([
        ("rate", "frames", "faults", "sent again", "silent", "longest call"),
        *((f"{row['rate']:g}", f"{row['frames']:,}", f"{row['faults']:,}", f"{row['resends']:,}", str(row["silent"]),
           f"{1e3 * row['longest_seconds']:.2f} ms") for row in rows)]))
    if any(row["silent"] for row in rows):
        raise click.ClickException("Corruptions must be noticed, but some were not")


@main.command("tokens")
@_checkpoint
@click.option("--tokens", type=click.IntRange(min=1), default=1000, show_default=True, help="For each rate.")
@_rates
@_seed
@_slots
@click.option("--store", type=click.Path(path_type=Path), help="Go on where this JSON file ends, part by part, and "
              "rewrite the page trust.md beside it.")
@_json
def tokens_command(checkpoint: Path, tokens: int, rates: tuple[float, ...], seed: int, slots: int, store: Path | None,
                   as_json: bool) -> None:
    """Whatever a line does, each value of each token is the golden machine's."""
    def run(tape: Tape, faults: Faults, progress: Callable[[int, int], None]) -> dict[str, Any]:
        if store is None:
            return soak_tokens(tape, faults, tokens, progress)
        return stored_tokens(tape, faults, tokens, store, checkpoint.as_posix(), progress)

    rows = _soak(checkpoint, slots, rates, seed, "tokens", run)
    if store is not None:
        written = store.with_name("trust.md")
        with replacing(written) as file:
            file.write(page(written.read_text(), json.loads(store.read_text())).encode())
    emit(as_json, {"runs": rows}, table([
        ("rate", "tokens", "values", "wrong", "frames", "faults", "sent again"),
        *((f"{row['rate']:g}", f"{row['tokens']:,}", f"{row['values_compared']:,}", str(row["wrong"]),
           f"{row['frames']:,}", f"{row['faults']:,}", f"{row['resends']:,}") for row in rows)]))


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.soak")
