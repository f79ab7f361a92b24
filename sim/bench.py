"""Figures of a simulated machine, which are told only of steps that passed the gate."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from terngen.host.chain import Chain, Computer
from terngen.host.device import Counters, Device
from terngen.host.errors import GateError
from terngen.hw.contract.tape import Tape
from terngen.hw.contract.trits import TRITS_PER_BYTE
from terngen.sim.device import GoldenTransport, SimTransport
from terngen.sim.gate import CheckedTransport

__all__ = ["Bench", "ChainBench", "greedy"]


class Bench:
    """A simulated machine beside the golden machine.

    Parameters
    ----------
    tape : :class:`Tape`
        The model; it still has to be loaded, unless option ``onchip`` is a tape as well.
    options
        Of :meth:`SimTransport.open`.

    Raises
    ------
    ToolError
        If the machine cannot be compiled.
    ConfigError
        If an option is refused.
    """

    def __init__(self, tape: Tape, **options: Any) -> None:
        self.tape      = tape
        self.simulated = SimTransport.open(tape.config, **options)
        self.checked   = CheckedTransport(self.simulated)
        self.device    = Device(self.checked, tape)
        if isinstance(options.get("onchip"), Tape):     # the machine has it, so its double has it
            self.checked.golden.attach(tape.image)
        self._cycles   = 0
        self._seconds  = 0.0
        self._idle     = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.device.close()

    def start(self) -> None:
        """The speed of the simulation is measured from now on: loading is over."""
        counters      = self.simulated.model.counters
        self._cycles  = counters.cycles
        self._idle    = counters.source_idle
        self._seconds = self.checked.seconds

    def prefill(self, count: int, seed: int) -> dict[str, Any]:
        """Let slot 0 read a prompt of random tokens, as many in a pass as there are slots; the speed of that.

        One more token, with the head, must then have the candidates that it has on the golden machine after the
        same tokens one by one.

        Raises
        ------
        GateError
            If they differ.
        """
        tokens = np.random.default_rng(seed).integers(0, self.tape.model["vocab_size"], count + 1).tolist()
        passes = self.device.prefill(tokens[:-1])
        last   = self.device.step({0: tokens[-1]})
        golden = GoldenTransport(self.tape.config)
        golden.attach(self.tape.image)
        single = Device(golden, self.tape)
        for place, token in enumerate(tokens):
            single.step({0: token}, reset=[0] if place == 0 else (), head=place == count)
        found, expected = self.device.results(0), single.results(0)
        self.checked.values_compared += len(expected.tokens)
        wrong = int(np.count_nonzero((found.tokens != expected.tokens) | (found.sums != expected.sums)))
        if wrong:
            self.checked.mismatches += wrong
            raise GateError(f"Prompt must leave the same candidates in one pass as token by token, but "
                            f"{found.tokens.tolist()} are not {expected.tokens.tolist()}")
        cycles = Counters.total(passes).cycles / count
        return {"prompt_tokens": count, "cycles_per_prompt_token": cycles, "prompt_speedup": last.cycles / cycles}

    def gate(self) -> dict[str, Any]:
        """What was compared, and how it came out."""
        checked = self.checked
        outcome: dict[str, Any] = {
            "gate":            "fail" if checked.mismatches else "pass",
            "values_compared": checked.values_compared,
            "mismatches":      checked.mismatches,
            "slots":           self.tape.config.slots,
        }
        if checked.first is not None:
            outcome["first"] = dataclasses.asdict(checked.first)
        return outcome

    def figures(self, runs: Sequence[Counters], passes: int | None = None) -> dict[str, Any]:
        """Speed, of runs that passed.

        A token is one pass of the tape, which gives one token to each slot that takes part. Attainment is
        the share of what the tape source could have given had it neither paused nor idled.

        Parameters
        ----------
        runs : sequence of :class:`Counters`
            Counters of each run, head included.
        passes : :class:`int`
            Passes of the tape in them, by default one in each.
        """
        total    = Counters.total(runs)
        count    = len(runs) if passes is None else passes
        beat     = self.tape.config.beat_bytes
        memory   = self.simulated.memory
        counters = self.simulated.model.counters
        cycles   = counters.cycles - self._cycles
        seconds  = self.checked.seconds - self._seconds
        return {
            "tokens":                 count,
            "digest":                 self.tape.config.digest.hex(),
            "ternary_weights":        self.tape.model["ternary_weights"],
            "products_per_cycle":     beat * TRITS_PER_BYTE * self.tape.config.slots,
            "cycles_per_token":       total.cycles / count,
            "tape_bytes_per_token":   total.beats * beat / count,
            "peak_bytes_per_cycle":   float(beat * memory.rate),
            "attainment":             total.beats / float(total.cycles * memory.rate),
            "stall_tape_per_token":   total.stall_tape / count,
            "stall_array_per_token":  total.stall_array / count,
            "stall_vector_per_token": total.stall_vector / count,
            "source_idle_per_token":  (counters.source_idle - self._idle) / memory.channels / count,
            "sim_cycles_per_second":  cycles / seconds,
            "sim_tokens_per_second":  count / seconds,
        }


class ChainBench:
    """Simulated machines with the pieces of a model, each beside a golden one.

    Parameters
    ----------
    benches : sequence of :class:`Bench`
        In the order of the pieces.
    """

    def __init__(self, benches: Sequence[Bench]) -> None:
        self.benches = list(benches)
        self.device  = Chain([bench.device for bench in benches])

    def gate(self) -> dict[str, Any]:
        """As :meth:`Bench.gate`, over all of them; `first` is of the first machine that differs."""
        gates = [bench.gate() for bench in self.benches]
        sums  = {name: sum(gate[name] for gate in gates) for name in ("values_compared", "mismatches")}
        found = next((gate for gate in gates if "first" in gate), {})
        return {**found, "gate": "fail" if sums["mismatches"] else "pass", "slots": gates[0]["slots"], **sums}

    def play(self, count: int, seed: int) -> dict[str, Any]:
        """Let every slot make a text, see :func:`greedy`, and tell the figures of each machine, if all passed."""
        for bench in self.benches:
            bench.start()
        parts: list[list[Counters]] = []
        steps  = greedy(self.device, count, seed, lambda: parts.append(self.device.parts))
        pieces = [bench.figures(counted) for bench, counted in zip(self.benches, zip(*parts), strict=True)]
        return {**self.gate(), "tokens": count, "cycles_per_token": Counters.total(steps).cycles / count,
                "pieces": pieces}


def greedy(device: Computer, count: int, seed: int, after: Callable[[], None] = lambda: None) -> list[Counters]:
    """Let every slot make a text of its own: a random token, then the best each time.

    Parameters
    ----------
    count : :class:`int`
        Steps, each with one token for each slot.
    after
        Called after each of them.

    Returns
    -------
    list of :class:`Counters`
        Of each step.
    """
    model, slots = device.tape.model, range(device.config.slots)
    rng    = np.random.default_rng(seed)
    tokens = {slot: int(token) for slot, token in
              zip(slots, rng.integers(0, model["vocab_size"], len(slots)))}
    steps  = []
    for step in range(count):
        steps.append(device.step(tokens, reset=slots if step == 0 else ()))
        after()
        tokens = {slot: int(device.results(slot).tokens[0]) for slot in slots}
    return steps
