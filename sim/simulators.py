"""How fast each way to simulate the machine is.

``python -m terngen.sim.simulators`` builds one machine in every way, and has each play tokens of the same
model: from nothing, so that the time to build is that of a fresh clone. What the host, the link, the memory
and the calls between Python and C++ cost shows in the same cycles played again, of which all inputs were
recorded (:func:`driving`).
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from terngen.host.commands.console import emit, note
from terngen.sim.verilate import OPTIMISATION

__all__ = ["driving", "measure"]

#: Name, tokens that are played, and what it is.
WAYS = {
    "cocotb on Icarus":    (1, "icarus"),
    "cocotb on Verilator": (1, "verilator"),
    "native, -O1":         (20, "-O1"),
    "native, -O2":         (20, "-O2"),
    "native, -O3":         (20, "-O3"),
    f"native, {OPTIMISATION}, a call for each cycle": (2, "calls"),
}


def measure(way: str, tape_path: Path) -> dict[str, Any]:
    """Build a machine and play tokens on it; seconds of each, and cycles in a second.

    Raises
    ------
    ToolError
        If what it needs is missing.
    """
    from terngen.hw.contract.tape import Tape
    tokens, kind = WAYS[way]
    tape = Tape.open(tape_path)
    play = _cocotb if kind in ("icarus", "verilator") else _native
    with _fresh_cache():
        build, seconds, cycles = play(tape, tape_path, tokens, kind)
    return {"way": way, "build_seconds": round(build, 1), "tokens": tokens, "cycles": cycles,
            "cycles_per_second": round(cycles / seconds)}


@contextlib.contextmanager
def _fresh_cache() -> Iterator[None]:
    """A cache in which nothing is, and then the one before it again."""
    usual = os.environ.get("TERNGEN_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="terngen-") as folder:
        os.environ["TERNGEN_CACHE_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["TERNGEN_CACHE_DIR"]
            if usual is not None:
                os.environ["TERNGEN_CACHE_DIR"] = usual


def _native(tape, tape_path, tokens, kind) -> tuple[float, float, int]:
    from terngen.host.device import Device
    from terngen.sim.bench import greedy
    from terngen.sim.device import SimPipe, SimTransport
    begin  = time.monotonic()
    option = OPTIMISATION if kind == "calls" else kind
    with Device(SimTransport(tape.config, direct=True, optimisation=option), tape) as device:
        build = time.monotonic() - begin
        if kind == "calls":
            device.transport.pipe.BATCH_CYCLES = 1
        assert isinstance(device.transport.pipe, SimPipe)
        device.load()
        counters = device.transport.model.counters
        begin = time.thread_time()
        greedy(device, tokens, seed=0)
        seconds = time.thread_time() - begin
        return build, seconds, device.transport.model.counters.cycles - counters.cycles


def driving(tape, *, tokens: int = 20, rounds: int = 3, optimisation: str = OPTIMISATION) -> dict[str, Any]:
    """The simulated device beside the bare simulator that plays the same cycles, the best of some rounds.

    Both run in the same process on the same library. Cycles are those of whole tokens, accesses of the host
    included.
    """
    from terngen.host.device import Device
    from terngen.sim.bench import greedy
    from terngen.sim.compiled import CompiledModel
    from terngen.sim.device import SimTransport
    driven, bare = [], []
    transport = SimTransport(tape.config, direct=True, optimisation=optimisation)
    recorded  = transport.model
    recorded.reset()
    before = recorded.counters
    recorded.record()
    transport._connect()                # says HELLO, which is the first thing recorded
    with Device(transport, tape) as device:
        device.load()
        greedy(device, tokens, seed=0)
        counters = recorded.counters
        cycles   = counters.cycles - before.cycles
        for _ in range(rounds):
            with contextlib.closing(SimTransport(tape.config, direct=True, optimisation=optimisation)) as other:
                start  = time.process_time()
                device = Device(other, tape)
                device.load()
                greedy(device, tokens, seed=0)
                driven.append(time.process_time() - start)
            model = CompiledModel(recorded.library)
            start = time.process_time()
            octets = model.replay(recorded)
            bare.append(time.process_time() - start)
            model.close()
            assert octets == counters.octets_out - before.octets_out, "The bare simulator did something else"
    return {
        "optimisation":             optimisation,
        "tokens":                   tokens,
        "cycles":                   cycles,
        "driven_tokens_per_second": tokens / min(driven),
        "driven_cycles_per_second": round(cycles / min(driven)),
        "bare_cycles_per_second":   round(cycles / min(bare)),
        "bare_over_driven":         min(driven) / min(bare),
    }


def _cocotb(tape, tape_path, tokens, kind) -> tuple[float, float, int]:
    from terngen.hw.top import Machine
    from terngen.sim.verilog import run_bench
    os.environ["TERNGEN_COCOTB_SIM"] = kind
    with tempfile.TemporaryDirectory(prefix="terngen-") as folder:
        report  = Path(folder, "report")
        machine = Machine(tape.config)
        begin   = time.monotonic()
        run_bench(machine, "bench_top", timeout=1800,
                  env={"TAPE": tape_path, "TOKENS": tokens, "STALL": 0, "REPORT": report})
        seconds, cycles = (float(word) for word in report.read_text().split())
        return time.monotonic() - begin - seconds, seconds, round(cycles)


def _table(rows: list[dict[str, Any]], driven: dict[str, Any]) -> Iterator[str]:
    best = max(row["cycles_per_second"] for row in rows)
    yield f"{'':36}{'build':>8}{'cycles/s':>12}{'of the best':>13}"
    for row in rows:
        yield (f"{row['way']:36}{row['build_seconds']:>6.1f} s{row['cycles_per_second']:>12,}"
               f"{100 * row['cycles_per_second'] / best:>11.1f} %")
    yield (f"The same cycles, {driven['optimisation']}: driven {driven['driven_cycles_per_second']:,} cycles/s, bare "
           f"simulator {driven['bare_cycles_per_second']:,}, which is {driven['bare_over_driven']:.2f} times as fast")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(WAYS)), help="Measure this way; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(model: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Measure every way to simulate the machine of MODEL, a checkpoint."""
    from terngen.host.commands.console import Progress
    from terngen.host.compile import compile_tape
    from terngen.host.configs import model_config
    from terngen.host.convert.checkpoint import Checkpoint
    from terngen.hw.contract.tape import Tape
    with tempfile.TemporaryDirectory(prefix="terngen-") as folder:
        checkpoint = Checkpoint.open(model)
        path       = Path(folder, "model.tape")
        with Progress() as progress:
            compile_tape(checkpoint, model_config(checkpoint.geometry), path, progress=progress)
        rows = []
        for way in only or WAYS:
            note(f"Measuring {way}")
            rows.append(measure(way, path))
        note("Measuring what the driver costs")
        driven = driving(Tape.open(path))
    emit(as_json, {"ways": rows, "driver": driven}, _table(rows, driven))


if __name__ == "__main__":
    main()
