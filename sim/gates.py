"""A component in gates of two inputs: how many there are, and what they compute for many operands at once.

Yosys makes the gates: AND, OR, XOR, inverters, and adders whose carry ripples. Registers are wires here, as if the
operands had stood at the inputs for long.
"""

import collections
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil
from numpy.typing import NDArray

from terngen.hw import build

__all__ = ["Gates"]

#: The adder of fewest gates. That of Yosys is wider and faster.
_RIPPLE = r"""
module \$lcu (P, G, CI, CO);
  parameter WIDTH = 2;
  input [WIDTH-1:0] P, G;
  input CI;
  output [WIDTH-1:0] CO;
  assign CO = G | (P & {CO[WIDTH-2:0], CI});
endmodule
"""
_SCRIPT = """
read_rtlil top.il
synth -top top -flatten -run begin:fine
techmap t:$alu
techmap -map ripple.v t:$lcu
synth -top top -run fine:check -noabc
dfflegalize -cell $_DFFE_PP_ 01 -cell $_DFF_P_ 01
abc -g AND,OR,XOR
opt_clean
delete t:$scopeinfo
write_json top.json
"""
_OPERATIONS = {"$_AND_": np.logical_and, "$_OR_": np.logical_or, "$_XOR_": np.logical_xor}


class Gates:
    """The gates of a component.

    Parameters
    ----------
    component : :class:`wiring.Component`
        Without memories. Multiplications become gates as well.

    Raises
    ------
    BuildError
        If there is no Yosys, or it fails.
    """

    def __init__(self, component: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="terngen-") as scratch:
            folder = Path(scratch)
            text   = rtlil.convert(component, "top", ports=build.component_ports(component), emit_src=False)
            (folder / "top.il").write_text(text)
            (folder / "ripple.v").write_text(_RIPPLE)
            (folder / "top.ys").write_text(_SCRIPT)
            build.run_tool(build.YOSYS, ["top.ys"], folder)
            self._top = json.loads((folder / "top.json").read_text())["modules"]["top"]

    @property
    def counts(self) -> dict[str, int]:
        """Gates of each kind: ``and``, ``or``, ``xor``, ``not``; and registers, ``ff``."""
        kinds = collections.Counter(re.sub(r"\$_(S|A|)DFF.*", "ff", cell["type"]).strip("$_").lower()
                                    for cell in self._top["cells"].values())
        return {kind: kinds[kind] for kind in ("and", "or", "xor", "not", "ff")}

    @property
    def total(self) -> int:
        """Gates of two inputs. Inverters are not counted, because a gate can have them inside."""
        return sum(count for kind, count in self.counts.items() if kind in ("and", "or", "xor"))

    def evaluate(self, operands: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """The outputs for each value of the inputs, in order.

        Parameters
        ----------
        operands
            By name of the port, equally many; ports that are not named are ones, like a clock enable.
        """
        nets = self._nets(operands)
        return {name: sum(nets[bit].astype(np.int64) << place for place, bit in enumerate(port["bits"]))
                for name, port in self._top["ports"].items() if port["direction"] == "output"}

    def toggles(self, operands: Mapping[str, NDArray[np.int64]]) -> int:
        """How often an output of a gate or register changes while the inputs go through their values.

        Each value settles at once: what a slow carry does on the way is not counted.
        """
        nets = self._nets(operands)
        outputs = {pin for cell in self._top["cells"].values() for port, bits in cell["connections"].items()
                   if port in "QY" for pin in bits}
        return sum(int(np.count_nonzero(nets[pin][1:] != nets[pin][:-1])) for pin in outputs)

    def _nets(self, operands: Mapping[str, NDArray[np.int64]]) -> dict[Any, NDArray[np.bool_]]:
        """The value of every wire, for each value of the inputs."""
        [count] = {len(values) for values in operands.values()}
        nets: dict[Any, NDArray[np.bool_]] = {"0": np.zeros(count, bool), "1": np.ones(count, bool),
                                              "x": np.zeros(count, bool)}
        for name, port in self._top["ports"].items():
            if port["direction"] == "input":
                for place, bit in enumerate(port["bits"]):
                    nets[bit] = operands[name] >> place & 1 == 1 if name in operands else nets["1"]
        waiting = list(self._top["cells"].values())
        while waiting:
            later = [cell for cell in waiting if not self._settle(cell, nets)]
            assert len(later) < len(waiting), "Gates must not form a loop"
            waiting = later
        return nets

    @staticmethod
    def _settle(cell: dict[str, Any], nets: dict[Any, NDArray[np.bool_]]) -> bool:
        """Compute the output of a cell whose inputs are known."""
        pins = {port: bits[0] for port, bits in cell["connections"].items()}
        if "Q" in pins:
            inputs, output = [pins["D"]], pins["Q"]
        else:
            inputs, output = [pins[port] for port in "AB" if port in pins], pins["Y"]
        if not all(each in nets for each in inputs):
            return False
        values = [nets[each] for each in inputs]
        match cell["type"]:
            case "$_NOT_":
                nets[output] = ~values[0]
            case kind if kind in _OPERATIONS:
                nets[output] = _OPERATIONS[kind](*values)
            case _:
                assert "Q" in pins, cell["type"]
                nets[output] = values[0]
        return True
