"""How much the products of a model switch, in gates: exact ones beside L-Mul.

The golden machine gives the operands of each site, in the order in which a lane of a machine sees them. The gates
of both multipliers go through them, and every change of an output of a gate or register is counted. So this is a
view of its own of what an operation costs, beside published figures: it knows the data, and no wires, voltages or
glitches.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from terngen.hw.contract.config import Sites
from terngen.hw.contract.formats import EXACT, Codes, Multiplier, widen
from terngen.hw.contract.tape import Tape
from terngen.hw.units.multiply import Multiply
from terngen.sim.gates import Gates
from terngen.sim.golden.sequence import Sequence as GoldenSequence

__all__ = ["operands", "switching"]

#: Products of a site that are enough for a mean.
_ENOUGH = 1 << 16


def operands(tape: Tape, tokens: Sequence[int]) -> dict[str, tuple[Codes, Codes]]:
    """What the multipliers of the first lane see while a model reads some tokens, by site."""
    lanes = tape.config.lanes
    seen: dict[str, list[np.ndarray]] = {field.name: [] for field in dataclasses.fields(Sites)}

    def observe(site: str, a: Codes, b: Codes) -> None:
        a, b = np.broadcast_arrays(a, b)
        # (slots, elements); scales have a multiplier of their own.
        if a.ndim == 2:
            seen[site].append(np.stack([a, b])[:, :, ::lanes].reshape(2, -1))

    sequence = GoldenSequence(tape, chunk=1)
    sequence.machine.observe_products = observe
    for token in tokens:
        sequence.advance([token])
    return {site: (pairs[0], pairs[1]) for site, parts in seen.items() for pairs in [np.concatenate(parts, axis=1)]}


def switching(tape: Tape, tokens: Sequence[int], multiplier: Multiplier,
              progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> dict[str, dict[str, Any]]:
    """Changes for a product of each site, of the exact multiplier and another one.

    Raises
    ------
    BuildError
        If there is no Yosys.
    """
    fmt   = tape.config.path
    gates = {(wide, chosen): Gates(Multiply(fmt=fmt.wide if wide else fmt, multiplier=chosen))
             for wide in (False, True) for chosen in (EXACT, multiplier)}
    found = {}
    seen  = operands(tape, tokens)
    for place, (site, (a, b)) in enumerate(seen.items()):
        progress("Counting what switches", place, len(seen))
        wide = site == "square"
        if wide:
            a, b = widen(fmt, a), widen(fmt, b)
        a, b = a[:_ENOUGH], b[:_ENOUGH]
        exact, other = (gates[wide, chosen].toggles({"a": a, "b": b}) / (len(a) - 1)
                        for chosen in (EXACT, multiplier))
        found[site] = {"pairs": len(a), "exact": exact, "lmul": other, "ratio": exact / other}
    return found
