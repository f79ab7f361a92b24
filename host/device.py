"""The driver: the same for a board, for the simulated gateware and for the golden machine."""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from terngen.host.errors import ConfigError, DeviceError, InputError, LinkError
from terngen.host.sampling import Sampling
from terngen.host.transport import Transport
from terngen.hw.contract import bits, formats, regs
from terngen.hw.contract.config import Control
from terngen.hw.contract.regs import Reg, Status
from terngen.hw.contract.tape import Mark, Section, Tape

__all__ = ["Counters", "Device", "Result", "devices"]

#: Octets that are written between two reports of progress.
_CHUNK = 1 << 16

#: Seconds between two looks at a run, see :attr:`Device.watcher`.
_LOOK_SECONDS = 0.05
#: Patience with a step, and more for each beat of the tape.
_STEP_SECONDS, _BEAT_SECONDS = 10.0, 2e-6

_GROUP = "terngen.transports"


def _silent(done: int, total: int) -> None:
    """Nobody wants to know."""


def devices() -> list[str]:
    """Names of the kinds of device that can be opened."""
    return sorted({point.name for point in entry_points(group=_GROUP)})


@dataclasses.dataclass(frozen=True)
class Counters:
    """What the machine counted in one step."""

    #: From the start of the step to idle.
    cycles:       int
    #: Beats that the machine took.
    beats:        int
    #: Cycles in which it wanted a beat and had none.
    stall_tape:   int
    #: Cycles in which the array did not take a beat.
    stall_array:  int
    #: Cycles in which the vector unit did not take a beat.
    stall_vector: int

    @classmethod
    def total(cls, steps: Sequence[Self]) -> Self:
        """Sums over steps."""
        return cls(*(sum(counts) for counts in zip(*map(dataclasses.astuple, steps), strict=True))
                   ) if steps else cls(0, 0, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Result:
    """The best candidates of one slot, best first.

    Equal sums stand in the order of their tokens.
    """

    #: ``(candidates,)``
    tokens: NDArray[np.int64]
    #: Row sums of the head: logits but for the scale, ``(candidates,)``.
    sums:   NDArray[np.int64]
    #: Logit of a sum of one.
    scale:  float

    @property
    def logits(self) -> NDArray[np.float64]:
        """``(candidates,)``"""
        return np.asarray(self.sums * self.scale, np.float64)


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A run of one step: what it plays, beats of embedding rows before that, and when it began, here and there."""

    mark:  Mark
    rows:  int
    begin: float
    since: float


class Device:
    """A machine with a tape.

    Parameters
    ----------
    transport : :class:`Transport`
        Way to the machine.
    tape : :class:`Tape`
        The model.

    Raises
    ------
    ConfigError
        If the machine and the tape were not made for each other.
    DeviceError
        If there is no machine, or it is of another version.
    """

    def __init__(self, transport: Transport, tape: Tape) -> None:
        self.transport = transport
        self.tape      = tape
        #: What the machine counted in the runs of the last :meth:`decode` or :meth:`logits`.
        self.counters: list[Counters] = []
        self._under_way: _Text | None = None
        self._busy     = False      # a run has been started, and not been waited for
        #: Is told the beat of the tape that the machine has got to, now and then, while a step is waited for that
        #: takes long enough. Looking takes time of the link, and of the machine none.
        self.watcher: Callable[[int], None] | None = None
        self._watched: _Watched | None = None
        self._took: dict[Mark, tuple[float, float]] = {}    # seconds of a run, here and in the time of the device
        self.config    = tape.config
        if (magic := self._get(Reg.MAGIC)) != regs.MAGIC:
            raise DeviceError(f"{transport.description} is not a terngen machine: it answers "
                              f"{magic:#010x}, not {regs.MAGIC:#010x}")
        if (version := self._get(Reg.VERSION)) != regs.VERSION:
            raise DeviceError(f"{transport.description} has registers of version {version}, this "
                              f"program knows version {regs.VERSION}; generate the machine again")
        digest = transport.read(Reg.DIGEST.value, len(tape.config.digest))
        if digest != tape.config.digest:
            raise ConfigError(f"Machine was generated for configuration {digest.hex()}, the tape "
                              f"for {tape.config.digest.hex()}; rebuild one of them")

    @classmethod
    def open(cls, spec: str, tape: Tape, **options: Any) -> Self:
        """Open a device by name: ``golden`` or ``sim``.

        What follows a colon in `spec` is handed to the kind of device as option ``place``.

        Raises
        ------
        ConfigError
            If there is no device of that kind.
        """
        kind, colon, place = spec.partition(":")
        for point in entry_points(group=_GROUP):
            if point.name == kind:
                if colon:
                    options["place"] = place
                transport = point.load().open(tape.config, **options)
                try:
                    return cls(transport, tape)
                except BaseException:
                    transport.close()
                    raise
        raise ConfigError(f"There is no device {kind!r}; there are {', '.join(devices())}")

    def close(self) -> None:
        """Let go of the device; what it is doing is stopped."""
        try:
            if self._busy:
                with contextlib.suppress(LinkError):
                    self.abort()
        finally:
            self.transport.close()

    def abort(self) -> None:
        """Stop what the device is doing, also after a call that was interrupted.

        It keeps the tape, and is otherwise as after power-up: all sequences are lost.

        Raises
        ------
        LinkError
            If the device does not answer.
        """
        self._busy = False
        if self._under_way is not None:
            self._under_way.drop()
            self._under_way = None
        self.transport.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Words.

    def _get(self, register: Reg) -> int:
        return int.from_bytes(self.transport.read(register.value, 4), "little")

    def _put(self, address: int, *words: int) -> None:
        self.transport.write(address, np.array(words, "<u4").tobytes())

    def ping(self) -> None:
        """Ask whether the machine is still there.

        Raises
        ------
        DeviceError
            If it is not.
        """
        self._settle()
        if (magic := self._get(Reg.MAGIC)) != regs.MAGIC:
            raise DeviceError(f"{self.transport.description} is no terngen machine any more: it answers {magic:#010x}")

    # Steps.

    def load(self, progress: Callable[[int, int], None] | None = None, *, start: int = 0) -> None:
        """Write the image of the tape into the memory of the device.

        Parameters
        ----------
        progress
            Called with octets written and octets in all.
        start
            Octets that are in the memory already: of a load that was interrupted, what `progress`
            was told last.

        Raises
        ------
        ConfigError
            If the image is larger than a device can have.
        ValueError
            If `start` does not lie within the image, or is no multiple of four.
        """
        self._settle()
        image = self._image()
        if not 0 <= start <= len(image) or start % 4 and start < len(image):
            raise ValueError(f"Start must be a multiple of four up to {len(image)}, not {start}")
        self._write_tape(start, len(image), progress or _silent, 0, len(image))

    def _image(self) -> NDArray[np.uint8]:
        if len(self.tape.image) > regs.TAPE_BYTES:
            raise ConfigError(f"Tape has {len(self.tape.image)} octets, a device at most {regs.TAPE_BYTES}")
        return self.tape.image

    def _write_tape(self, start: int, end: int, progress: Callable[[int, int], None], done: int, total: int) -> None:
        """Write a part of the image; tell what was done before and now."""
        for place in range(start, end, _CHUNK):
            octets = self.tape.image[place:min(place + _CHUNK, end)].tobytes()
            self.transport.write(regs.TAPE_BASE + place, octets + bytes(-len(octets) % 4))
            progress(min(done + place + len(octets) - start, total), total)

    def damaged(self, progress: Callable[[int, int], None] | None = None) -> list[Section]:
        """Sections that the device does not have as the tape has them: it reads its memory back and finds the check
        sums.

        Parameters
        ----------
        progress
            Called with beats read and beats in all.
        """
        self._settle()
        found, done = [], 0
        for section in self.tape.sections:
            self._put(Reg.PLAY_START.value, section.start, section.count)
            self._busy = True
            self._put(Reg.CHECK.value, 1)
            self._wait()
            if self._get(Reg.CRC) != section.crc32:
                found.append(section)
            done += section.count
            if progress is not None:
                progress(done, self.tape.beats)
        return found

    def verify(self) -> None:
        """Let the device read its tape memory back, section by section, and compare the check sums.

        Raises
        ------
        DeviceError
            If sections are not what was loaded; the message names them.
        """
        if damaged := self.damaged():
            names = ", ".join(section.name for section in damaged)
            raise DeviceError(f"Memory of {self.transport.description} must hold the tape, but does not in {names}; "
                              f"load the tape again")

    def complete(self, progress: Callable[[int, int], None] | None = None) -> list[Section]:
        """Load what the device does not have, and verify it; what it has stays, so that a load that was interrupted
        goes on.

        Returns
        -------
        The sections that were loaded.

        Raises
        ------
        ConfigError
            If the image is larger than a device can have.
        DeviceError
            If the memory does not keep what is written.
        """
        self._image()
        wanted, done = self.damaged(), 0
        octets = self.config.beat_bytes
        total  = octets * sum(section.count for section in wanted)
        for section in wanted:
            start, size = octets * section.start, octets * section.count
            # Whole words: a section of narrow beats may end in the middle of one.
            end = min(start + size + -(start + size) % 4, len(self.tape.image))
            self._write_tape(start - start % 4, end, progress or _silent, done, total)
            done += size
        if wanted:
            self.verify()
        return wanted

    @property
    def _through(self) -> Mark:
        """The layers and the head, which follows them."""
        layers, head = self.tape.marks["layers"], self.tape.marks["head"]
        return Mark(layers.start, layers.count + head.count)

    def step(self, tokens: Mapping[int, int], *, reset: Collection[int] = (),
             head: bool = True, states: Mapping[int, int] | None = None) -> Counters:
        """Feed one token to some slots; the others are not touched.

        Parameters
        ----------
        tokens
            Token of each slot that takes part.
        reset
            Slots that begin a new sequence with this token.
        head
            Whether to compute the logits, see :meth:`results`.
        states
            Recurrent state that a slot works on; by default its own. Slots with the same one are
            consecutive tokens of a sequence, in the order of the slots.

        Raises
        ------
        InputError
            If a token is not in the vocabulary.
        ValueError
            If there is no such slot or state.
        """
        self.begin(tokens, reset=reset, head=head, states=states)
        return self._wait()

    def begin(self, tokens: Mapping[int, int], *, reset: Collection[int] = (), head: bool = True,
              states: Mapping[int, int] | None = None) -> None:
        """Begin what :meth:`step` does, and leave the machine to it; :meth:`end` must follow."""
        slots = self._put_tokens(tokens, states or {})
        self._start(self._through if head else self.tape.marks["layers"], slots, reset, embed=True)

    def end(self) -> Counters:
        """Wait for the end of what has begun."""
        return self._wait()

    def vector(self, slot: int) -> NDArray[np.uint32]:
        """The residual vector of a slot, codes ``(hidden,)`` of the path; of a machine that has it readable."""
        self._settle()
        octets = self.transport.read(regs.vector_address(self.config, slot, 0), 4 * self.tape.model["hidden_size"])
        return np.frombuffer(octets, "<u4")

    def take_vector(self, slot: int, vector: NDArray[np.uint32]) -> None:
        """Put the residual vector of another machine where the row of token `slot` is looked for."""
        self._settle()
        model = self.tape.model
        start, size = (model[name] * self.config.beat_bytes for name in ("embedding_start", "embedding_beats"))
        # Whole beats: others are not written.
        self.transport.write(regs.TAPE_BASE + start + slot * size, vector.astype("<u4").tobytes().ljust(size, b"\0"))

    def prefill(self, tokens: Sequence[int], *, state: int = 0, reset: bool = True) -> list[Counters]:
        """Let a sequence take tokens, as many in a pass of the tape as there are slots, without the head.

        It leaves the state as :meth:`step` with one token after the other would.

        Parameters
        ----------
        tokens
            May be empty.
        state
            Recurrent state of the sequence.
        reset
            Whether the sequence begins with these tokens.

        Raises
        ------
        InputError
            If a token is not in the vocabulary.
        ValueError
            If there is no such state.
        """
        count, passes = self.config.slots, []
        for start in range(0, len(tokens), count):
            part = dict(enumerate(tokens[start:start + count]))
            passes.append(self.step(part, reset=[0] if reset and start == 0 else (), head=False,
                                    states=dict.fromkeys(part, state)))
        return passes

    def decode(self, tokens: Mapping[int, int], count: int, *, reset: Collection[int] = (),
               stop: int | None = None, sampling: Mapping[int, Sampling] | None = None) -> Iterator[dict[int, int]]:
        """Let the machine go on by itself: each slot takes its best candidate as its next token, or draws one.

        Parameters
        ----------
        tokens
            First token of each slot that takes part.
        count
            Tokens to be made.
        reset
            Slots that begin a new sequence with this token.
        stop
            Token after which a slot takes part no more.
        sampling
            How slots choose, each by its own; the others take the best candidate. What they have chosen is what
            :meth:`Sampling.choose` would have chosen of :meth:`results`, step by step.

        Yields
        ------
        The token that each slot made, as it comes. When all have come, :attr:`counters` has what the
        machine counted. An interrupt (Ctrl-C) while one is awaited stops the machine, see :meth:`abort`.

        Raises
        ------
        InputError, ValueError
            As :meth:`step`.
        ConfigError
            If a token is to be drawn by a machine that has nothing to draw from.
        """
        self.counters.clear()
        drawing = {slot: each for slot, each in (sampling or {}).items() if slot in tokens and not each.greedy}
        for each in drawing.values():
            each.check(self.config)
        kept = min(self.config.top_k, self.tape.model["vocab_size"])
        while count > 0 and tokens:
            steps = min(count, self.config.history)
            slots = self._put_tokens(tokens, {})
            for slot, each in drawing.items():
                self._put(regs.choice_address(slot), *each.words(kept))
            self._start(self._through, slots, reset, embed=True, steps=steps, stop=stop, draw=drawing)
            self._under_way = text = _Text(self, steps)
            try:
                while made := text.next():
                    tokens = made
                    for slot in drawing.keys() & made.keys():
                        drawing[slot].skip(kept)
                    yield made
            finally:
                text.finish()
                self.counters.append(text.counters)
            tokens = {slot: token for slot, token in tokens.items() if token != stop}
            reset  = ()
            count -= steps

    def _put_tokens(self, tokens: Mapping[int, int], states: Mapping[int, int]) -> list[int]:
        """Tell the machine what the slots are to take; the slots, in order."""
        self._settle()
        rows = self.tape.rows
        for token in tokens.values():
            if not 0 <= token < rows:
                raise InputError(f"Token must be from 0 to {rows - 1}, not {token}")
        slots = sorted(tokens)
        for what, numbers in (("Slots", slots), ("States", sorted(states.values()))):
            if (what == "Slots" and not numbers) or any(
                    not 0 <= number < self.config.slots for number in numbers):
                raise ValueError(f"{what} must be from 0 to {self.config.slots - 1}, not {numbers}")
        every = range(self.config.slots)
        self._put(regs.token_address(0), *(tokens.get(slot, 0) for slot in every))
        self._put(regs.state_address(0), *(states.get(slot, slot) for slot in every))
        return slots

    def play(self, mark: str, slots: Collection[int]) -> Counters:
        """Play one part of the tape, without an embedding."""
        return self._run(self.tape.marks[mark], sorted(slots), (), embed=False)

    def sums_after(self, parts: Sequence[Mark], tokens: Mapping[int, int], rows: int, *, reset: bool = True
                   ) -> NDArray[np.int32]:
        """Feed a token to some slots, by default in new sequences, play parts of the tape, and take the sums of the
        last matrix in them, ``(slots, rows)``."""
        slots = self._put_tokens(tokens, {})
        for number, part in enumerate(parts):
            self._run(part, slots, slots if reset and not number else [], embed=not number)
        return np.stack([self._sums(slot, rows) for slot in slots])

    def _sums(self, slot: int, rows: int) -> NDArray[np.int32]:
        octets = self.transport.read(regs.sum_address(self.config, slot, 0), 4 * rows)
        return np.frombuffer(octets, "<i4")

    def _run(self, mark: Mark, slots: Collection[int], reset: Collection[int], *,
             embed: bool) -> Counters:
        self._start(mark, slots, reset, embed=embed)
        return self._wait()

    def _start(self, mark: Mark, slots: Collection[int], reset: Collection[int], *, embed: bool,
               steps: int = 1, stop: int | None = None, draw: Collection[int] = ()) -> None:
        """Begin a run. The registers from ``MASK`` to ``GO`` lie one behind the other."""
        self._settle()
        model = self.tape.model
        self._busy = True
        self._watched = None
        # A processor answers nothing while it plays, and of several steps the registers do not tell which.
        if self.watcher is not None and steps == 1 and self.config.control is Control.UNITS:
            rows = model["embedding_beats"] * len(slots) if embed else 0
            self._watched = _Watched(mark, rows, time.monotonic(), self.transport.clock())
        self._put(Reg.MASK.value, sum(1 << slot for slot in slots),
                  sum(1 << slot for slot in reset), model["embedding_start"],
                  model["embedding_beats"] if embed else 0, mark.start, mark.count,
                  model["hidden_size"], model["vocab_size"], steps,
                  regs.NO_TOKEN if stop is None else stop, sum(1 << slot for slot in draw), 1)

    def _settle(self) -> None:
        """Let the run that is under way end: the machine makes one after the other."""
        if self._under_way is not None:
            self._under_way.finish()
            self._under_way = None

    def _wait(self) -> Counters:
        """Wait for the end of the run; what the machine counted."""
        words = np.frombuffer(self._await(Reg.WAIT.value, 4 * 6), "<u4")
        self._busy = False
        if (run := self._watched) is not None:
            self._took[run.mark] = time.monotonic() - run.begin, self.transport.clock() - run.since
            self._watched = None
        status = bits.unpack(Status, int(words[0]).to_bytes(bits.size(Status), "little"))
        if status["fault"]:
            raise DeviceError(f"{self.transport.description} met a descriptor that makes no "
                              f"sense to it; load the tape again")
        return Counters(*(int(word) for word in words[1:]))

    def _await(self, address: int, octets: int) -> bytes:
        """Read what comes when the machine has got so far. Who does not want to wait for it stops the machine."""
        try:
            self._watch()
            return self.transport.read(address, octets, timeout=self._patience)
        except (KeyboardInterrupt, SystemExit):
            self.abort()
            raise
        except LinkError:
            self._busy = False      # there is nobody to stop
            raise

    def _watch(self) -> None:
        """Tell how far the run has got, as long as it should take by the last one of its kind."""
        run = self._watched
        if self.watcher is None or run is None or run.mark not in self._took:
            return
        here, there = self._took[run.mark]
        looks = int(here / _LOOK_SECONDS)
        for _ in range(1, looks):
            if not self.transport.idle(there / looks):
                return
            beats = min(max(0, self._get(Reg.BEATS) - run.rows), run.mark.count)
            self.watcher(run.mark.start + beats)
            if beats == run.mark.count:
                return

    @property
    def _patience(self) -> float:
        """Seconds within which a step must end: many times what it takes on a board, so that one that is simulated,
        at a hundredth of the speed, may stand behind the same link."""
        return _STEP_SECONDS + _BEAT_SECONDS * self.tape.beats

    def results(self, slot: int) -> Result:
        """The best candidates after a step with the head.

        Raises
        ------
        DeviceError
            If there are none, because no such step was made.
        """
        self._settle()
        count = self.config.top_k
        octets = self.transport.read(regs.result_address(slot), 4 * (1 + 2 * count))
        words  = np.frombuffer(octets, "<u4")
        tokens = words[regs.RESULT_TOP::2].astype(np.int64)
        sums   = np.frombuffer(octets, "<i4")[regs.RESULT_TOP + 1::2].astype(np.int64)
        known  = tokens < self.tape.model["vocab_size"]
        if not known.any():
            raise DeviceError(f"{self.transport.description} has no candidates for slot {slot}; a "
                              f"step with the head must come first")
        return Result(tokens[known], sums[known], self._scale(words[regs.RESULT_SCALE]))

    def _scale(self, code: Any) -> float:
        return float(formats.to_float(self.config.path, code))

    def logits(self, tokens: Mapping[int, int], *, reset: Collection[int] = (),
               states: Mapping[int, int] | None = None, wanted: Collection[int] | None = None
               ) -> dict[int, NDArray[np.float32]]:
        """One token to some slots, as :meth:`step`, and all logits of those that are `wanted`, ``(vocab,)``.

        The head is played tile by tile, and the sums of each are read: far slower than
        :meth:`results`, which holds for all slots afterwards. :attr:`counters` has what the machine counted.
        """
        self.counters = [self.step(tokens, reset=reset, head=False, states=states)]
        return self.head_logits(tokens.keys(), tokens.keys() if wanted is None else wanted)

    def head_logits(self, slots: Collection[int], wanted: Collection[int]) -> dict[int, NDArray[np.float32]]:
        """All logits of those slots that are `wanted`, ``(vocab,)``, after a step of `slots` without the head."""
        vocab = self.tape.model["vocab_size"]
        rows  = self.config.rows
        found: dict[int, list[NDArray[np.int32]]] = {slot: [] for slot in slots if slot in wanted}
        for index, start in enumerate(range(0, vocab, rows)):
            self.counters.append(self.play(f"head.{index}", slots))
            for slot, parts in found.items():
                parts.append(self._sums(slot, min(rows, vocab - start)))
        logits = {}
        for slot, parts in found.items():
            octets = self.transport.read(regs.result_address(slot, regs.RESULT_SCALE), 4)
            scale  = self._scale(np.frombuffer(octets, "<u4")[0])
            logits[slot] = (np.concatenate(parts) * scale).astype(np.float32)
        return logits


class _Text:
    """A run in which a machine makes tokens by itself.

    Parameters
    ----------
    steps : :class:`int`
        Steps that it was asked for.
    """

    def __init__(self, device: Device, steps: int) -> None:
        self._device = device
        self._left   = iter(range(steps))
        self._ahead: deque[dict[int, int]] = deque()       # read before anybody wanted them
        #: What the machine counted, when the run has ended.
        self.counters = Counters(0, 0, 0, 0, 0)
        self._ended   = False

    def next(self) -> dict[int, int]:
        """Tokens of the next step, by slot; none if there is no such step."""
        return self._ahead.popleft() if self._ahead else self._read()

    def _read(self) -> dict[int, int]:
        step = next(self._left, None)
        if step is None or self._ended:
            return {}
        config = self._device.config
        chosen = self._device._await(regs.history_address(config, step, 0), 4 * config.slots)
        return {slot: int(token) for slot, token in enumerate(np.frombuffer(chosen, "<u4"))
                if token != regs.NO_TOKEN}

    def drop(self) -> None:
        """Nothing comes any more."""
        self._ahead.clear()
        self._ended = True

    def finish(self) -> None:
        """Keep what is left of the tokens, and wait for the end."""
        if self._ended:
            return
        while made := self._read():
            self._ahead.append(made)
        self._ended   = True
        self.counters = self._device._wait()
