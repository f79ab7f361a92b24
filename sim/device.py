"""Devices without a board: the golden machine, and generated gateware in native code.

The host finds both by name, through the entry points ``terngen.transports``.
"""

import binascii
import hashlib
import inspect
import math
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from terngen.host.errors import ConfigError, LinkError
from terngen.host.files import output_folder
from terngen.host.link import FrameTransport
from terngen.hw.contract import bits, drawing, formats, regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Choice, Reg, Status
from terngen.hw.contract.tape import Mark, Tape, TapeFormatError
from terngen.sim import verilate, verilog
from terngen.sim.compiled import CompiledModel, Waveform, compile_machine
from terngen.sim.faults import Faults, FaultyPipe
from terngen.sim.golden.machine import GoldenMachine, MachineFault
from terngen.sim.memory import MemoryModel
from terngen.sim.trace import decode

__all__ = ["GoldenTransport", "SimPipe", "SimTransport", "machine_verilog"]


def _check_access(address: int, octets: int) -> None:
    for what, number in (("Address", address), ("Number of octets", octets)):
        if number < 0 or number % 4:
            raise ValueError(f"{what} must be a multiple of four, not {number}")


class GoldenTransport:
    """The golden machine, at the addresses of a device.

    The first step of a run is executed at once, the others when somebody asks for what they give. They take
    no cycles and have no stalls: those counters are zero.

    Parameters
    ----------
    config : :class:`Config`
        The machine.
    """

    description = "golden machine"

    #: Registers that a host sets; the last one only where the machine draws.
    SET = (Reg.MASK, Reg.RESET, Reg.EMBED_START, Reg.EMBED_BEATS, Reg.PLAY_START, Reg.PLAY_COUNT,
           Reg.HIDDEN, Reg.VOCAB, Reg.STEPS, Reg.STOP, Reg.DRAW)

    def __init__(self, config: Config):
        self.config  = config
        #: What executes the tape; its ``observe`` is free for others.
        self.machine = GoldenMachine(config, np.zeros(0, np.uint8))
        self._memory = self.machine.image       # at least as large as the image
        self.reset()

    @classmethod
    def open(cls, config: Config, **options: Any) -> Self:
        """The golden machine for `config`; it has no options.

        Raises
        ------
        ConfigError
            If an option is given.
        """
        if options:
            raise ConfigError(f"Golden machine has no option {next(iter(options))!r}")
        return cls(config)

    def reset(self) -> None:
        """As after power-up, but for the memory."""
        self.machine.reset()
        #: Why the machine stopped, a sentence, or ``None``.
        self.fault: str | None = None
        slots = range(self.config.slots)
        self._settable = {reg.value for reg in (self.SET if self.config.draws else self.SET[:-1])} | {
            address(slot) for slot in slots for address in (regs.token_address, regs.state_address)}
        self._words    = dict.fromkeys(self._settable, 0) | {
            Reg.MAGIC.value:   regs.MAGIC,
            Reg.VERSION.value: regs.VERSION,
            Reg.STOP.value:    regs.NO_TOKEN,
        } | {regs.state_address(slot): slot for slot in slots}
        self._choices  = {regs.choice_address(slot) + second: 0 for slot in slots for second in (0, 4)}
        self._history: list[dict[int, int]] = []        # tokens by slot, of each step
        self._run: Iterator[int] = iter(())             # executes a step; gives its beats
        for index, word in enumerate(np.frombuffer(self.config.digest, "<u4")):
            self._words[Reg.DIGEST.value + 4 * index] = int(word)

    def abort(self) -> None:
        """See :class:`~terngen.host.transport.Transport`."""
        self.reset()

    def clock(self) -> float:
        """See :class:`~terngen.host.transport.Transport`."""
        return time.monotonic()

    def idle(self, seconds: float) -> bool:
        """It works only while its answers are waited for."""
        return False

    def close(self) -> None:
        """Nothing is to be let go of."""

    def attach(self, image: np.ndarray) -> None:
        """Take `image` as the contents of the tape memory, without a copy."""
        self._memory = self.machine.image = image
        self.machine.forget()

    def read(self, address: int, octets: int, *, timeout: float | None = None) -> bytes:
        """See :class:`~terngen.host.transport.Transport`."""
        _check_access(address, octets)
        if self.config.readable and regs.VECTOR_BASE <= address < regs.TAPE_BASE:
            return self._read_vectors((address - regs.VECTOR_BASE) // 4, octets // 4)
        if regs.SUMS_BASE <= address < regs.TAPE_BASE:
            return self._read_sums((address - regs.SUMS_BASE) // 4, octets // 4)
        places = range(address, address + octets, 4)
        if regs.HISTORY_BASE <= address < regs.SUMS_BASE:
            words = [self._chosen(place) for place in places]
        else:
            self._finish()
            words = [self._words.get(place, 0) for place in places]
        return np.array(words, np.int64).astype("<u4").tobytes()

    def _chosen(self, address: int) -> int:
        """Where :func:`~terngen.hw.contract.regs.history_address` has it."""
        place = (address - regs.HISTORY_BASE) // 4
        step, slot = place >> self.config.slot_bits, place & (1 << self.config.slot_bits) - 1
        self._finish(step + 1)
        return self._history[step].get(slot, regs.NO_TOKEN) if step < len(self._history) else regs.NO_TOKEN

    def _read_vectors(self, first: int, count: int) -> bytes:
        """Where :func:`~terngen.hw.contract.regs.vector_address` has them; elsewhere zeros."""
        self._finish()
        words = np.zeros(count, "<u4")
        there = self.machine.x.ravel()[first:first + count]
        words[:len(there)] = there
        return words.tobytes()

    def _read_sums(self, first: int, count: int) -> bytes:
        """Where :func:`~terngen.hw.contract.regs.sum_address` has them; elsewhere zeros."""
        config = self.config
        sums   = self.machine.sums                                      # (slots, rows)
        place, lane = np.divmod(np.arange(first, first + count), config.lanes)
        slot, group = place >> config.group_bits, place & (1 << config.group_bits) - 1
        row    = group * config.lanes + lane
        there  = (slot < len(sums)) & (row < sums.shape[1])
        words  = np.zeros(count, "<i4")
        words[there] = sums[slot[there], row[there]]
        return words.tobytes()

    def write(self, address: int, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.Transport`."""
        _check_access(address, len(octets))
        if address >= regs.TAPE_BASE:
            self._write_tape(address - regs.TAPE_BASE, np.frombuffer(octets, np.uint8))
            return
        for place, word in enumerate(np.frombuffer(octets, "<u4").tolist()):
            target = address + 4 * place
            if target in self._settable:
                self._words[target] = word
            elif target in self._choices:
                self._choices[target] = word
            elif target == Reg.GO.value:
                self._go()
            elif target == Reg.CHECK.value:
                self._check()

    def _write_tape(self, offset: int, octets: np.ndarray) -> None:
        end  = offset + len(octets)
        size = len(self.machine.image)
        if end > len(self._memory) or not self._memory.flags.writeable:
            # Twice the size, so that a tape written piece by piece is copied but a few times.
            memory = np.zeros(max(end, 2 * len(self._memory)), np.uint8)
            memory[:size] = self.machine.image
            self._memory  = memory
        self._memory[offset:end] = octets
        self.machine.image = self._memory[:max(size, end)]
        self.machine.forget(range(offset, end))

    def _go(self) -> None:
        self._finish()
        if self.fault is not None:
            return
        slots = [slot for slot in range(self.config.slots) if self._get(Reg.MASK) >> slot & 1]
        machine = self.machine
        machine.states[:] = [self._words[regs.state_address(slot)] % (1 << self.config.slot_bits)
                             for slot in range(self.config.slots)]
        tokens = {slot: self._words[regs.token_address(slot)] for slot in slots}
        self._history = []
        self._words[Reg.BEATS.value] = 0
        self._run = self._steps(tokens)
        self._finish(1)

    def _check(self) -> None:
        """Read a part of the tape back."""
        self._finish()
        first, count = self._get(Reg.PLAY_START), self._get(Reg.PLAY_COUNT)
        octets = self.machine.image[first * self.config.beat_bytes:(first + count) * self.config.beat_bytes]
        self._words[Reg.CRC.value] = binascii.crc32(octets.data)

    def _steps(self, tokens: dict[int, int]) -> Iterator[int]:
        """Execute the steps of a run; yields the beats that each took."""
        reset = [slot for slot in range(self.config.slots) if self._get(Reg.RESET) >> slot & 1]
        for _ in range(max(1, self._get(Reg.STEPS))):
            if not tokens:
                return
            beats = self._step(tokens, reset)
            reset = []
            self._words[Reg.RESET.value] = 0
            made   = {slot: int(self.machine.top_index[slot, self._place(slot)]) for slot in tokens}
            self._history.append(made)
            tokens = {slot: token for slot, token in made.items() if token != self._get(Reg.STOP)}
            yield beats

    def _place(self, slot: int) -> int:
        """Of the candidate that a slot takes."""
        if not (self.config.draws and self._get(Reg.DRAW) >> slot & 1):
            return 0
        address = regs.choice_address(slot)
        choice  = bits.unpack(Choice, self._choices[address + 4].to_bytes(4, "little")[:bits.size(Choice)])
        scale   = float(formats.to_float(self.config.path, self.machine.scale[slot]))
        sums    = self.machine.top_sum[slot, :max(1, choice["candidates"])]
        place, state = drawing.draw(self._choices[address], drawing.slope(scale, choice["coldness"]), sums)
        self._choices[address] = int(state)
        return int(place)

    def _finish(self, steps: int | None = None) -> None:
        """Execute the run until so many steps are complete, or all of it."""
        if self.fault is not None:
            return
        try:
            while (steps is None or len(self._history) < steps) and (beats := next(self._run, 0)):
                self._words[Reg.BEATS.value] += beats
        except (MachineFault, TapeFormatError) as error:
            self.fault = str(error)
            self._words[Reg.STATUS.value] = self._words[Reg.WAIT.value] = int.from_bytes(
                bits.pack(Status, fault=1), "little")
            return
        machine = self.machine
        self._words[Reg.DONE.value]  = len(self._history)
        for slot in range(self.config.slots):
            words = [machine.scale[slot],
                     *np.stack([machine.top_index[slot], machine.top_sum[slot]], axis=1).ravel()]
            for index, word in enumerate(words):
                self._words[regs.result_address(slot, index)] = int(word)

    def _step(self, tokens: dict[int, int], reset: list[int]) -> int:
        """Execute a step; the beats that it took."""
        beats, hidden = self._get(Reg.EMBED_BEATS), self._get(Reg.HIDDEN)
        if beats:
            room = min(self.config.hidden, beats * self.config.beat_bits // self.config.embedding_bits)
            if not 0 < hidden <= room:
                raise MachineFault(f"Residual vector must have 1 to {room} elements, not {hidden}")
            self.machine.embed(tokens, self._get(Reg.EMBED_START), beats, hidden)
        part = Mark(self._get(Reg.PLAY_START), self._get(Reg.PLAY_COUNT))
        self.machine.play(part, [*tokens], reset=reset, vocab=self._get(Reg.VOCAB))
        return len(tokens) * beats + part.count

    def _get(self, register: Reg) -> int:
        return self._words[register.value]


def machine_verilog(config: Config, *, onchip: int | Tape | None = None, channels: int = 1) -> str:
    """Verilog of a machine, from the cache where nothing that it depends on has changed.

    Parameters
    ----------
    onchip : :class:`int` or :class:`Tape`
        Beats of a memory inside, or the tape that it begins with; without it the memory is outside.
    channels : :class:`int`
        Memories outside; several are behind AXI4 ports.
    """
    def make() -> Any:
        # Gateware takes a second to import, which a machine from the cache can do without.
        from terngen.hw.top import Machine, OnChipMachine, StripedMachine
        if isinstance(onchip, Tape):
            return OnChipMachine.of(onchip)
        if onchip is not None:
            return OnChipMachine(config, depth=onchip)
        return Machine(config) if channels == 1 else StripedMachine(config, channels=channels)

    inside = hashlib.sha256(onchip.image).hexdigest() if isinstance(onchip, Tape) else str(onchip)
    return verilog.cached_verilog(make, config.digest.hex(), inside, str(channels))


class SimPipe:
    """The link of a compiled machine.

    Its time is that of the machine, so that nothing depends on how fast the simulation is.

    Parameters
    ----------
    model : :class:`CompiledModel`
    quiet : :class:`int`
        Cycles without an octet either way after which the machine counts as dead.
    """

    description = "simulated machine"

    #: Cycles of the machine in one second of its time.
    CLOCK_HZ = 100_000_000
    #: Cycles between two looks at signals of the operating system.
    BATCH_CYCLES = 1 << 18
    #: Cycles without an octet after which an answer is handed on.
    GAP_CYCLES = 64

    def __init__(self, model: CompiledModel, *, quiet: int):
        self.model     = model
        self.quiet     = quiet
        self._received = bytearray()

    def clock(self) -> float:
        """Seconds since power-up."""
        return self.model.counters.cycles / self.CLOCK_HZ

    def send(self, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.BytePipe`."""
        waited = 0
        while octets:
            consumed, answers = self.model.run(octets, max_cycles=self.BATCH_CYCLES)
            self._received += answers
            octets = octets[consumed:]
            waited = 0 if consumed or answers else waited + self.BATCH_CYCLES
            if waited >= self.quiet:
                raise LinkError(f"Device must take octets from the link, but {self.description} "
                                f"has taken none for {waited} cycles")

    def receive(self, max_octets: int, timeout: float) -> bytes:
        """See :class:`~terngen.host.transport.BytePipe`."""
        limit  = math.ceil(min(timeout * self.CLOCK_HZ, self.quiet))
        waited = 0
        while not self._received and waited < limit:
            batch = min(limit - waited, self.BATCH_CYCLES)
            self._received += self.model.run(want=1, max_cycles=batch)[1]
            waited += batch
        if not self._received and waited >= self.quiet:
            raise LinkError(f"Device must answer, but {self.description} has not for {waited} cycles")
        while 0 < len(self._received) < max_octets:
            more = self.model.run(want=max_octets - len(self._received),
                                  max_cycles=self.GAP_CYCLES)[1]
            if not more:
                break
            self._received += more
        octets = bytes(self._received[:max_octets])
        del self._received[:max_octets]
        return octets

    def close(self) -> None:
        """Free the machine."""
        self.model.close()


class SimTransport(FrameTransport):
    """Generated gateware in native code, behind the frames of a board.

    Parameters
    ----------
    config : :class:`Config`
        The machine; it is generated and compiled, unless the cache has it.
    memory : :class:`MemoryModel`
        Timing of the tape memory, and over how many memories the tape is striped.
    onchip : :class:`int` or :class:`Tape`
        Beats of a tape memory inside the machine, which then has none outside; or a tape for its `config`, which
        it has from the beginning. With a `board` it is the memory of that.
    board : :class:`str`
        A complete board, see :func:`~terngen.sim.board.compile_board`, with its link and its memory.
    direct : :class:`bool`
        What is written to the tape memory goes there in no time, not through the link. For tapes of
        many megabytes.
    link_stall : :class:`float`
        Probability with which an octet of the link is held back in a cycle, each way.
    faults : :class:`Faults`
        What happens to octets between the driver and the link of the machine.
    seed : :class:`int`
        Of all stalls.
    waveform : :class:`Waveform`
        Window of cycles to be written.
    optimisation : :class:`str`
        Of the compiler; ``-O3`` pays for runs of many minutes.

    Raises
    ------
    ToolError
        If Verilator or a compiler is missing or fails.
    OutputError
        If the cache or the waveform cannot be written.
    """

    #: Cycles without an answer after which a machine counts as dead, and more for each beat in its
    #: memory, because the answer to ``WAIT`` takes as long as a step.
    QUIET_CYCLES          = 5_000_000
    QUIET_CYCLES_PER_BEAT = 64
    #: Seconds after which a line with faults is given up, and after which requests are sent again.
    TIMEOUT, PATIENCE = 1.0, 200e-6

    #: What happens on the way; nothing, unless somebody asks for it.
    _faults: Faults | None = None

    def __init__(self, config: Config, *, memory: MemoryModel | None = None,
                 onchip: int | Tape | None = None, board: str | None = None, direct: bool = False,
                 link_stall: float = 0.0, faults: Faults | None = None, seed: int = 0,
                 waveform: Waveform | None = None,
                 optimisation: str = verilate.OPTIMISATION):
        if (onchip is not None or board is not None) and (memory is not None or direct):
            raise ValueError("A machine with its memory inside has no timing of a memory outside, "
                             "and is loaded through the link")
        # First, because generating takes a while.
        verilate.find_verilator()
        verilate.find_compiler()
        if waveform is not None:
            with output_folder(waveform.path):
                pass
        made = {"waveform": waveform is not None, "optimisation": optimisation}
        if board is not None:
            from terngen.sim.board import compile_board
            image   = onchip.image.tobytes() if isinstance(onchip, Tape) else bytes((onchip or 0) * config.beat_bytes)
            library = compile_board(config, board, image=image, **made)
        else:
            text    = machine_verilog(config, onchip=onchip, channels=1 if memory is None else memory.channels)
            library = compile_machine(text, config=config, **made)
        self.config  = config
        #: Timing of the memory outside.
        self.memory  = MemoryModel() if memory is None else memory
        #: The machine: its counters, memory and trace.
        self.model   = CompiledModel(library, memory=self.memory, stall_in=link_stall,
                                     stall_out=link_stall, seed=seed, waveform=waveform)
        self._direct = direct
        self._faults = faults
        self._beats  = 0        # in the memory
        self._connect()

    @classmethod
    def open(cls, config: Config, **options: Any) -> Self:
        """A simulated machine; `options` are those of the class, `memory`, `faults` and `waveform` also as text.

        Option ``place`` is another name for `memory`, so that ``sim:latency=20`` is a device.

        Raises
        ------
        ConfigError
            If an option is unknown or refused.
        """
        if "place" in options:
            options["memory"] = options.pop("place")
        known = [name for name, parameter in inspect.signature(cls).parameters.items()
                 if parameter.kind is parameter.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                raise ConfigError(f"Simulation has no option {name!r}; it has {', '.join(known)}")
        try:
            for name, kind in (("memory", MemoryModel), ("faults", Faults), ("waveform", Waveform)):
                if isinstance(options.get(name), str):
                    options[name] = kind.parse(options[name])
            return cls(config, **options)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error

    def _connect(self) -> None:
        """Begin a session."""
        self.pipe = SimPipe(self.model, quiet=self._quiet)
        clock     = self.pipe.clock
        if self._faults is not None:
            self.line = FaultyPipe(self.pipe, self._faults, clock=clock)
            super().__init__(self.line, timeout=self.TIMEOUT, patience=self.PATIENCE, clock=clock)
        else:
            # Nothing is lost on the way, so nothing is ever sent again; the pipe knows a dead machine.
            forever = 1e9
            super().__init__(self.pipe, timeout=forever, patience=forever, clock=clock)

    @property
    def _quiet(self) -> int:
        return self.QUIET_CYCLES + self.QUIET_CYCLES_PER_BEAT * self._beats

    def reset(self) -> None:
        """Hold the reset of the machine, whatever it is doing, and begin a new session."""
        self.model.reset()
        self._connect()

    def write(self, address: int, octets: bytes) -> None:
        """See :class:`~terngen.host.transport.Transport`."""
        if address >= regs.TAPE_BASE:
            offset = address - regs.TAPE_BASE
            self._beats = max(self._beats, (offset + len(octets)) // self.config.beat_bytes)
            self.pipe.quiet = self._quiet
            if self._direct:
                self.model.memory_write(offset, octets)
                return
        super().write(address, octets)

    def trace(self, on: bool = True) -> None:
        """Collect trace events from now on, or no longer."""
        self.model.trace(on)

    def events(self) -> dict[str, np.ndarray]:
        """Events since the last call, see :func:`~terngen.sim.trace.decode`."""
        return decode(self.config, self.model.take_trace())
