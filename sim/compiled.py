"""Machines in native code, driven in process.

:func:`compile_machine` turns the Verilog of a machine into a shared library; a
:class:`CompiledModel` is one machine of such a library. Its clock is played, and its link, memory
and trace are served, in batches of cycles by the harness in ``harness/``.
"""

import ctypes
import dataclasses
import os
import re
from pathlib import Path
from typing import Any, Self

import numpy as np

from terngen.hw.contract.config import Config
from terngen.sim import verilate, verilog
from terngen.sim.memory import MemoryModel
from terngen.sim.trace import event_words

__all__ = ["CompiledModel", "Counters", "Library", "Waveform", "compile_machine", "loops"]

@dataclasses.dataclass(frozen=True)
class Waveform:
    """A window of cycles, counted from power-up, that is written to a VCD file."""

    path:  Path
    first: int
    last:  int

    def __post_init__(self) -> None:
        if Path(self.path).suffix != ".vcd":
            raise ValueError(f"Waveform must be a .vcd file, not {str(self.path)!r}")
        if not 0 <= self.first <= self.last:
            raise ValueError(f"Waveform must end at cycle {self.first} or later, not {self.last}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The window that `text` describes, like ``step.vcd:1000-2000``.

        Raises
        ------
        ValueError
            If it does not describe one; the message says why.
        """
        match = re.fullmatch(r"(.+):(\d+)-(\d+)", text)
        if match is None:
            raise ValueError(f"Waveform must be written like step.vcd:1000-2000, not {text!r}")
        return cls(Path(match[1]), int(match[2]), int(match[3]))


# Building.

@dataclasses.dataclass(frozen=True)
class Library:
    """A compiled design: the shared library, and what its top module has.

    Parameters
    ----------
    path : :class:`pathlib.Path`
    memory : :class:`bool`
        The top asks for beats of a memory outside.
    channels : :class:`int`
        Memories outside; more than one are behind AXI4 ports.
    event_words : :class:`int`
        32-bit words of a trace event; zero if the top has no trace.
    """

    path:        Path
    memory:      bool
    channels:    int
    event_words: int


def compile_machine(component: Any, *, config: Config, waveform: bool = False, coverage: bool = False,
                    optimisation: str = verilate.OPTIMISATION) -> Library:
    """Compile a machine: a component, or its Verilog with a top module ``top``.

    The top has ``link_i`` and ``link_o``, and ``trace`` and ``busy`` or not; ``play``, ``beats`` and
    ``load`` all three, or ``axi``, or it has its memory inside.

    Parameters
    ----------
    waveform : :class:`bool`
        The models of the library can write waveforms, and are slower.
    coverage : :class:`bool`
        They count what is covered, and are slower.
    optimisation : :class:`str`
        ``-O1``, ``-O2`` or ``-O3``.

    Raises
    ------
    ToolError
        If Verilator or a compiler is missing or fails.
    """
    text  = component if isinstance(component, str) else verilog.verilog(component)
    ports = _ports(text, "top")
    for name in ("link_i__payload", "link_o__payload"):
        if name not in ports:
            raise ValueError(f"Machine must have the port {name}; it has "
                             f"{', '.join(sorted(ports))}")
    memory   = "beats__payload" in ports
    channels = sum(re.fullmatch(r"axi__\d+__rdata", name) is not None for name in ports)
    if memory and ports["beats__payload"] != config.beat_bits:
        raise ValueError(f"Beats of the machine must have {config.beat_bits} bits, not "
                         f"{ports['beats__payload']}")
    if channels and ports["axi__0__rdata"] * channels != config.beat_bits:
        raise ValueError(f"Beats of the machine must have {config.beat_bits} bits, not "
                         f"{channels} times {ports['axi__0__rdata']}")
    words = -(-ports.get("trace__event", 0) // 32)
    if words and words != event_words(config):
        raise ValueError(f"Events of the machine must have {event_words(config)} words, not {words}")
    made = {"waveform": waveform, "coverage": coverage, "optimisation": optimisation}
    path = verilate.build(_shell(loops(text), "top"), **made, defines={
        "HAS_MEMORY": int(memory),
        "HAS_TRACE":  int(words > 0),
        "HAS_BUSY":   int("busy" in ports),
        "CHANNELS":   channels,
        "HAS_RESET":  int("rst" in ports),
        "BEAT_BYTES": config.beat_bytes,
    })
    return Library(path, memory or channels > 0, max(channels, int(memory)), words)


def _port_list(text: str, top: str) -> list[tuple[str, str, int]]:
    """Direction, name and width of the ports of a module in Verilog that Amaranth wrote."""
    module = re.search(rf"^module {top}\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    if module is None:
        raise ValueError(f"Verilog must have a module {top!r}")
    ports = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", module[0], re.MULTILINE)
    return [(direction, name, int(high or 0) + 1) for direction, high, name in ports]


def _ports(text: str, top: str) -> dict[str, int]:
    """Ports of a module, and their widths."""
    return {name: width for _, name, width in _port_list(text, top)}


def _shell(text: str, top: str) -> str:
    """A module ``shell`` around `top`, with the same ports, that takes the reset one cycle later.

    Nearly everything depends on the reset. What depends on an input Verilator computes twice in a cycle,
    what depends on a register once.
    """
    ports    = _port_list(text, top)
    declared = ", ".join(f"{direction} [{width - 1}:0] {name}" for direction, name, width in ports)
    passed   = ", ".join(f".{name}({'rst_late' if name == 'rst' else name})" for _, name, _ in ports)
    late     = "  reg rst_late = 0;\n  always @(posedge clk) rst_late <= rst;\n" if "rst" in _ports(text, top) else ""
    return f"{text}\nmodule shell({declared});\n{late}  {top} machine({passed});\nendmodule\n"


def loops(text: str) -> str:
    """The same Verilog, with a loop where each word of a memory is set to zero: Verilator makes a statement in C++
    of every assignment, which for large memories is most of the code."""
    def loop(match: re.Match[str]) -> str:
        return f"for (int i = 0; i <= {match['last']}; i = i + 1) {match['name']}[i] = {match['zero']};\n"

    return re.sub(r"(?P<name>\w+)\[0\] = (?P<zero>\d+'h0+);\n"
                  r"(?:\s+(?P=name)\[(?P<last>\d+)\] = (?P=zero);\n)+", loop, text)


# Running.

class _Parameters(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint64), *((name, ctypes.c_uint32) for name in (
                "latency", "jitter", "rate", "rate_of", "row_beats", "row_pause", "refresh_period",
                "refresh_pause", "stall_memory", "stall_in", "stall_out"))]


@dataclasses.dataclass(frozen=True)
class Counters:
    """What happened at the ports since power-up.

    Of a striped tape, beats, withheld and requests are those of the first memory.
    """

    #: Clock cycles.
    cycles:     int
    #: Beats given to the machine.
    beats:      int
    #: Cycles in which the machine would have taken a requested beat, and the memory had none.
    withheld:   int
    #: Requests taken.
    requests:   int
    #: Beats that the machine wrote.
    loads:      int
    #: Octets taken from and given to the host.
    octets_in:  int
    octets_out: int
    #: Events traced.
    events:     int
    #: Cycles of the memory during runs in which it could have given a beat and gave none: it had not been
    #: asked, or what it gave before had not been taken. A sum over the memories of a striped tape.
    source_idle: int
    #: Cycles of the memory during runs in which it opened a row, refreshed or stalled; a sum as well.
    source_paused: int


class _Counters(ctypes.Structure):
    _fields_ = [(field.name, ctypes.c_uint64) for field in dataclasses.fields(Counters)]


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    handle, octets = ctypes.c_void_p, ctypes.c_char_p
    size, long, pointer = ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
    for name, result, arguments in (
            ("new",            handle,       [ctypes.POINTER(_Parameters)]),
            ("delete",         None,         [handle]),
            ("reset",          None,         [handle, long]),
            ("run",            None,         [handle, pointer, size, ctypes.POINTER(size), pointer,
                                              size, ctypes.POINTER(size), long, size]),
            ("memory_write",   ctypes.c_int, [handle, long, pointer, long]),
            ("memory_read",    None,         [handle, long, pointer, long]),
            ("trace",          None,         [handle, ctypes.c_int]),
            ("trace_words",    long,         [handle]),
            ("trace_take",     None,         [handle, pointer]),
            ("record",         None,         [handle]),
            ("replay",         long,         [handle, handle]),
            ("counters",       None,         [handle, ctypes.POINTER(_Counters)]),
            ("waveform",       None,         [handle, octets, long, long]),
            ("waveform_close", None,         [handle]),
            ("coverage",       None,         [handle, octets])):
        function = getattr(library, f"machine_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class CompiledModel:
    """One machine of a compiled :class:`Library`, with its memory.

    Time stands still between calls.

    Parameters
    ----------
    memory : :class:`MemoryModel`
        Timing of the memory outside, if the machine has none inside.
    stall_in, stall_out : :class:`float`
        Probability with which an octet of the link is held back in a cycle.
    seed : :class:`int`
        Of all stalls.
    waveform : :class:`Waveform`
        Window to be written; the library must have been built for it.
    """

    #: Octets that one batch may give; more wait in the machine for the next.
    BATCH_OCTETS = 1 << 16

    def __init__(self, library: Library, *, memory: MemoryModel | None = None,
                 stall_in: float = 0.0, stall_out: float = 0.0, seed: int = 0,
                 waveform: Waveform | None = None):
        for name, value in (("stall_in", stall_in), ("stall_out", stall_out)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be a probability less than 1, not {value!r}")
        memory = MemoryModel() if memory is None else memory
        if library.memory and memory.channels != library.channels:
            raise ValueError(f"Machine has a tape in {library.channels} memories, so memory channels must "
                             f"be {library.channels}, not {memory.channels}")
        #: What it is a machine of.
        self.library = library
        self._code    = _load(library.path)
        self._out     = ctypes.create_string_buffer(self.BATCH_OCTETS)
        self._handle  = self._code.machine_new(_Parameters(
            seed=seed, latency=memory.latency, jitter=memory.jitter, rate=memory.rate.numerator,
            rate_of=memory.rate.denominator, row_beats=memory.row_beats, row_pause=memory.row_pause,
            refresh_period=memory.refresh_period, refresh_pause=memory.refresh_pause,
            stall_memory=round(memory.stall * (1 << 32)), stall_in=round(stall_in * (1 << 32)),
            stall_out=round(stall_out * (1 << 32))))
        if waveform is not None:
            self._code.machine_waveform(self._handle, os.fsencode(waveform.path), waveform.first,
                                        waveform.last)

    def run(self, octets: bytes = b"", *, want: int = 0, max_cycles: int) -> tuple[int, bytes]:
        """Play the clock until the machine has taken all `octets` and given `want`.

        It stops earlier after `max_cycles`, or when it has given :attr:`BATCH_OCTETS`; it may give
        more than `want` while octets are taken.

        Returns
        -------
        :class:`tuple`
            How many octets it took, and those that it gave.
        """
        consumed, produced = ctypes.c_size_t(), ctypes.c_size_t()
        self._code.machine_run(self._handle, octets, len(octets), consumed, self._out,
                               self.BATCH_OCTETS, produced, max_cycles, want)
        return consumed.value, self._out[:produced.value]

    def reset(self, cycles: int = 2) -> None:
        """Hold the reset. The memory keeps its contents; its requests are forgotten."""
        self._code.machine_reset(self._handle, cycles)

    def memory_write(self, offset: int, octets: bytes | np.ndarray) -> None:
        """Write into the memory outside, past the machine and in no time."""
        if not self.library.memory:
            raise ValueError("Machine has its memory inside; write through the link")
        values = np.frombuffer(octets, np.uint8)
        if not self._code.machine_memory_write(self._handle, offset, values.ctypes.data, values.size):
            raise MemoryError(f"Tape memory cannot grow to {offset + values.size} octets")

    def memory_read(self, offset: int, count: int) -> bytes:
        """What is in the memory outside; zeros where nothing was written."""
        octets = np.empty(count, np.uint8)
        self._code.machine_memory_read(self._handle, offset, octets.ctypes.data, count)
        return octets.tobytes()

    def trace(self, on: bool = True) -> None:
        """Collect trace events from now on, or no longer."""
        if on and not self.library.event_words:
            raise ValueError("Machine has no trace port")
        self._code.machine_trace(self._handle, on)

    def take_trace(self) -> np.ndarray:
        """Events collected since the last call, ``(events, event_words)`` of ``uint32``."""
        words = np.empty(self._code.machine_trace_words(self._handle), np.uint32)
        self._code.machine_trace_take(self._handle, words.ctypes.data)
        return words.reshape(-1, max(1, self.library.event_words))

    def record(self) -> None:
        """Remember all inputs from now on, for :meth:`replay`."""
        if self.library.channels > 1:
            raise ValueError("Machine with a striped tape cannot be recorded")
        self._code.machine_record(self._handle)

    def replay(self, recorded: Self) -> int:
        """Do what `recorded`, another machine of the library, did: the bare simulator, without a driver.

        Returns
        -------
        :class:`int`
            Octets that came out of the link.
        """
        return self._code.machine_replay(self._handle, recorded._handle)

    def coverage(self, path: Path) -> None:
        """Write what has been covered, as Verilator writes it; nothing if the library does not count it."""
        self._code.machine_coverage(self._handle, os.fsencode(path))

    @property
    def counters(self) -> Counters:
        counters = _Counters()
        self._code.machine_counters(self._handle, counters)
        return Counters(**{name: getattr(counters, name) for name, _ in _Counters._fields_})

    def close(self) -> None:
        """Finish the waveform and free the machine."""
        if self._handle is not None:
            self._code.machine_waveform_close(self._handle)
            self._code.machine_delete(self._handle)
            self._handle = None

    def __del__(self):
        if getattr(self, "_handle", None) is not None:
            self.close()
