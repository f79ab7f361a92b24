"""Mutation testing of the gateware: of many small defects, how many does nobody notice?

``python -m terngen.sim.mutants CHECKPOINT`` lets Yosys put defects into the netlist of a whole machine, evenly over its
cells, each behind a number, so that one simulation has them all: an inverted bit, one that is stuck, one that another
bit inverts. Then each is switched on, and the machine is loaded and played beside the golden machine, through a
sound line and through one with faults. A mutant that nobody notices survives.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from terngen.host import configs
from terngen.host.commands.console import Progress, emit, table
from terngen.host.compile import compile_tape
from terngen.host.convert.checkpoint import Checkpoint
from terngen.host.device import Device
from terngen.host.errors import DeviceError, LinkError
from terngen.host.sampling import Sampling
from terngen.hw import build
from terngen.hw.contract import regs, wire
from terngen.hw.contract.regs import Reg
from terngen.hw.contract.tape import Tape
from terngen.hw.contract.wire import Fault, Frame, Type
from terngen.sim.compiled import CompiledModel, compile_machine
from terngen.sim.device import GoldenTransport, SimTransport, machine_verilog
from terngen.sim.faults import Faults
from terngen.sim.gate import CheckedTransport
from terngen.sim.memory import MemoryModel

__all__ = ["mutated", "survives"]

#: Environment variable that says which mutant a machine is; zero is none.
_CHOICE = "TERNGEN_MUTANT"
_BITS   = 16
#: Cycles without an answer after which a mutant counts as dead.
_QUIET  = 300_000


class Noticed(Exception):
    """A mutant did what the machine must not do."""


def mutated(text: str, count: int, seed: int) -> tuple[str, list[dict[str, str]]]:
    """The Verilog of a machine with so many defects, and what they are.

    Raises
    ------
    BuildError
        If there is no Yosys, or it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(text)
        (folder / "list.ys").write_text(
            f"read_verilog -sv top.v\nprep -flatten -top top\nopt -full\nwreduce\nopt -full\nopt_clean -purge\n"
            f"write_rtlil flat.il\n"
            f"mutate -list {count} -seed {seed} -ctrl mutant {_BITS} 1 -o mutate.ys\n")
        build.run_tool(build.YOSYS, ["list.ys"], folder)
        chosen = (folder / "mutate.ys").read_text()
        (folder / "apply.ys").write_text(f"read_rtlil flat.il\n{chosen}\nclean\nwrite_verilog -noattr mutants.v\n")
        build.run_tool(build.YOSYS, ["apply.ys"], folder)
        verilog = (folder / "mutants.v").read_text()
    # Not a port that somebody has to drive, but what the environment says when the machine is made.
    verilog = re.sub(r"^(module top\(.*?), mutant\b", r"\1", verilog, count=1, flags=re.MULTILINE | re.DOTALL)
    verilog = re.sub(r"^  input (\[\d+:0\]) mutant;\n  wire \[\d+:0\] mutant;\n",
                     rf'  reg \1 mutant;\n  initial mutant = $c32("std::atoi(std::getenv(\\"{_CHOICE}\\"))");\n',
                     verilog, count=1, flags=re.MULTILINE)
    mutants = [dict(re.findall(r"-(mode|cell|port|portbit|wire|wirebit) (\S+)", line)) for line in chosen.splitlines()]
    return verilog, mutants


class _Mutant(SimTransport):
    """A machine of a library that has mutants."""

    QUIET_CYCLES          = _QUIET
    QUIET_CYCLES_PER_BEAT = 0

    def __init__(self, library: Any, config: Any, number: int, faults: Faults | None) -> None:
        os.environ[_CHOICE] = str(number)
        self.config  = config
        self.memory  = MemoryModel(latency=7, refresh_period=301, refresh_pause=13, stall=0.1)
        self.model   = CompiledModel(library, memory=self.memory, stall_in=0.1, stall_out=0.1, seed=1)
        self._direct = False
        self._faults = faults
        self._beats  = 0
        self._connect()


def _same(what: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise Noticed(f"{what} is {actual!r}, not {expected!r}")


def _play(transport: _Mutant, tape: Tape) -> None:
    """A load, steps of some and of all slots, a prompt, a text; every value beside the golden machine's."""
    checked = CheckedTransport(transport)
    device  = Device(checked, tape)
    golden  = GoldenTransport(tape.config)
    golden.attach(tape.image)
    device.load()
    _same("Memory", transport.model.memory_read(0, len(tape.image)), tape.image.tobytes())
    _same("Damage", device.damaged(), [])
    rng   = np.random.default_rng(1)
    vocab = tape.model["vocab_size"]
    every = range(tape.config.slots)

    def token() -> int:
        return int(rng.integers(vocab))

    def steps() -> Iterator[Any]:
        yield device.step({slot: token() for slot in every}, reset=every)
        yield device.step({0: token()})
        yield device.step({slot: token() for slot in every}, reset=[1])
        yield device.prefill([token() for _ in range(5)], state=0)
        yield device.step({1: vocab - 1}, head=False)
        yield list(device.decode({slot: token() for slot in every}, 3,
                                 sampling={0: Sampling(temperature=1.0, seed=1)}))
        yield device.logits({0: token()})

    for made in steps():
        _same("Differences", checked.mismatches, 0)
        counters = made if isinstance(made, list) else [made]
        for each in counters:
            if hasattr(each, "cycles") and not 0 < each.beats <= each.cycles:
                raise Noticed(f"{each} cannot be")
        for slot in every:
            device.results(slot)


def _talk(transport: _Mutant, tape: Tape) -> None:
    """What is refused, what comes twice, what is not intact; then the same machine as a device."""
    pipe = transport.pipe

    def ask(octets: bytes) -> list[Frame]:
        pipe.send(octets)
        decoder, frames = wire.Decoder(), []
        while piece := pipe.receive(4096, 30e-6):
            frames += decoder.feed(piece)
        _same("Frames that are not intact", decoder.drops, 0)
        return frames

    def request(kind: Type, sequence: int, **fields: Any) -> bytes:
        return wire.encode_frame(Frame(type=kind, generation=77, sequence=sequence, **fields))

    def write(sequence: int, address: int, payload: bytes) -> bytes:
        return request(Type.WRITE, sequence, address=address, length=len(payload), payload=payload)

    def kinds(octets: bytes) -> list[tuple[Type, Fault]]:
        return [(frame.type, frame.fault) for frame in ask(octets)]

    ask(bytes(3))
    _same("Opening", kinds(request(Type.HELLO, 10)), [(Type.HELLO_REPLY, Fault.NONE)])
    place = Reg.HIDDEN.value
    first = write(11, place, b"\1\2\3\4")
    _same("Writing", kinds(first), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Overtaking", kinds(write(13, place, b"\5\5\5\5")), [(Type.ERROR, Fault.SEQUENCE)])
    _same("Another write", kinds(write(12, place, b"\6\7\1\2")), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Once more", kinds(first), [(Type.WRITE_REPLY, Fault.NONE)])
    look = request(Type.READ, 13, address=place, length=4)
    _same("Reading", [frame.payload for frame in ask(look)], [b"\6\7\1\2"])
    _same("Again", [frame.payload for frame in ask(b"\0" + look)], [b"\6\7\1\2"])
    _same("Foreign", kinds(wire.encode_frame(Frame(type=Type.READ, generation=78, sequence=14, address=0, length=4))),
          [(Type.ERROR, Fault.GENERATION)])
    _same("Crooked", kinds(request(Type.READ, 14, address=2, length=4)), [(Type.ERROR, Fault.ADDRESS)])
    for number, length in enumerate((0, 6, wire.MAX_PAYLOAD + 4)):
        _same("Length", kinds(request(Type.READ, 15 + number, address=0, length=length)), [(Type.ERROR, Fault.LENGTH)])
    answers = ask(request(Type.READ, 18, version=2, address=0, length=4))
    _same("Version", [(frame.fault, frame.version) for frame in answers], [(Fault.VERSION, wire.VERSION)])
    spoilt = bytearray(write(18, place, b"\1\1\1\1"))
    for bit in range(8, 8 * len(spoilt) - 16, 41):
        other = bytearray(spoilt)
        other[bit // 8] ^= 1 << bit % 8
        _same("What is not intact", ask(bytes(other)), [])
    _same("Too long", ask(b"\x07" * (wire.MAX_ENCODED + 9) + b"\0"), [])
    long = np.random.default_rng(2).integers(0, 3, wire.MAX_PAYLOAD, np.uint8).tobytes()
    _same("Longest", kinds(write(18, regs.TAPE_BASE, long)), [(Type.WRITE_REPLY, Fault.NONE)])
    _same("Unchanged", [frame.payload for frame in ask(request(Type.READ, 19, address=place, length=4))], [b"\6\7\1\2"])
    _same("Written", transport.model.memory_read(0, len(long)), long)
    _same("The same session", kinds(request(Type.HELLO, 10)), [(Type.HELLO_REPLY, Fault.NONE)])
    _same("Kept", [frame.payload for frame in ask(request(Type.READ, 20, address=place, length=4))], [b"\6\7\1\2"])
    _same("A new session", kinds(request(Type.HELLO, 99)), [(Type.HELLO_REPLY, Fault.NONE)])
    _same("Reset", [frame.payload for frame in ask(request(Type.READ, 100, address=place, length=4))], [bytes(4)])
    transport._connect()
    device = Device(transport, tape)
    device._put(Reg.PLAY_START.value, 0, 1)
    transport.model.memory_write(0, b"\xff" * tape.config.beat_bytes)
    device._put(Reg.GO.value, 1)
    transport.read(Reg.WAIT.value, 4)


def _suffer(transport: _Mutant, tape: Tape) -> None:
    """A load through a line with faults."""
    device = Device(transport, tape)
    device.load()
    transport.read(Reg.MAGIC.value, 4)
    _same("Memory", transport.model.memory_read(0, len(tape.image)), tape.image.tobytes())


#: What is done with a mutant, and on what line.
_STAGES: tuple[tuple[Callable[[_Mutant, Tape], None], Faults | None], ...] = (
    (_play, None), (_talk, None), (_suffer, Faults(1e-3, seed=5)))


def survives(library: Any, tape: Tape, number: int) -> str | None:
    """Why a mutant was noticed, or nothing if it was not."""
    for stage, faults in _STAGES:
        transport = None
        try:
            transport = _Mutant(library, tape.config, number, faults)
            stage(transport, tape)
        except (DeviceError, LinkError, Noticed, ValueError, IndexError) as error:
            return f"{stage.__name__[1:]}: {error}"
        finally:
            if transport is not None:
                transport.model.close()
    return None


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, (1 << _BITS) - 1), default=1000, show_default=True, help="Mutants.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of their choice.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def main(checkpoint: Path, count: int, seed: int, as_json: bool) -> None:
    """Which defects of a machine the tests of this module do not notice."""
    try:
        model  = Checkpoint.open(checkpoint)
        config = configs.model_config(model.geometry, "small", slots=2)
        with tempfile.TemporaryDirectory() as folder, Progress() as progress:
            path = Path(folder, "model.tape")
            compile_tape(model, config, path)
            tape = Tape.open(path)
            progress("netlist", 0, count)
            text, mutants = mutated(machine_verilog(config), count, seed)
            library = compile_machine(text, config=config, optimisation="-O1")
            if (trouble := survives(library, tape, 0)) is not None:
                raise click.ClickException(f"Without a defect the machine must pass, but {trouble}")
            found = []
            for number in range(1, len(mutants) + 1):
                progress("mutants", number - 1, count)
                found.append(survives(library, tape, number))
    except (DeviceError, ValueError, build.BuildError) as error:
        raise click.ClickException(str(error)) from error
    alive = [mutant for mutant, reason in zip(mutants, found, strict=True) if reason is None]
    stages = Counter(reason.split(":")[0] for reason in found if reason is not None)
    emit(as_json, {"mutants": len(mutants), "noticed": dict(stages), "survivors": alive},
         [f"{len(mutants)} mutants, {len(alive)} survive ({100 * len(alive) / len(mutants):.1f} %); noticed "
          + ", ".join(f"{count} in {stage}" for stage, count in stages.items()), "",
          *table([("mode", "cell", "port", "wire"), *(
              (mutant["mode"], mutant["cell"], f"{mutant['port']} {mutant.get('portbit', '')}",
               f"{mutant.get('wire', '')} {mutant.get('wirebit', '')}") for mutant in alive)])])


if __name__ == "__main__":
    main(prog_name="python -m terngen.sim.mutants")
