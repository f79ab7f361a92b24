"""What Yosys leaves undone in a netlist for an ECP5, as it writes it in JSON.

Registers of blocks: Yosys uses neither those behind a block RAM, which is slow without, nor those of multipliers. A
flip-flop becomes one of them if that changes nothing but its place. One before a block stays where it is as well if
others read it: nextpnr takes 3.5 ns for the setup of a multiplier if one operand has no register.
"""

import collections
from typing import Any

__all__ = ["absorb", "trim_carries"]


class _Registers:
    """Flip-flops of a module, by the nets before and behind them."""

    def __init__(self, top: dict[str, Any]) -> None:
        self._top     = top
        self._users   = _users(top)
        self._before  = {}      # by input
        self._behind  = {}      # by output
        for name, cell in top["cells"].items():
            if cell["type"] == "TRELLIS_FF" and self._is_plain(cell):
                self._before[cell["connections"]["DI"][0]] = name
                self._behind[cell["connections"]["Q"][0]] = name

    @staticmethod
    def _is_plain(cell: dict[str, Any]) -> bool:
        parameters = cell["parameters"]
        return (cell["connections"]["LSR"] == ["0"] and parameters.get("REGSET", "RESET") == "RESET"
                and parameters.get("CLKMUX", "CLK") == "CLK")

    def _control(self, name: str) -> tuple[Any, Any]:
        """Clock and clock enable."""
        cell   = self._top["cells"][name]
        enable = cell["connections"]["CE"][0] if cell["parameters"].get("CEMUX", "CE") == "CE" else "1"
        return cell["connections"]["CLK"][0], enable

    def _common(self, names: list[str | None]) -> tuple[Any, Any] | None:
        if not all(name in self._top["cells"] for name in names):
            return None
        controls = {self._control(name) for name in names if name is not None}
        return controls.pop() if len(controls) == 1 else None

    def _take(self, name: str) -> dict[str, Any]:
        """Connections of a register; it goes if nobody reads it any more."""
        connections = self._top["cells"][name]["connections"]
        source, sink = connections["DI"][0], connections["Q"][0]
        self._users[sink] -= 1
        self._users[source] += 1
        if not self._users[sink]:
            del self._top["cells"][name]
            self._users[source] -= 1
        return connections

    def take_behind(self, cell: dict[str, Any], ports: list[str]) -> tuple[Any, Any] | None:
        """Make the registers behind these outputs part of the cell; their clock and enable, if it could be done."""
        used    = [port for port in ports if self._users[cell["connections"][port][0]]]
        names   = [self._before.get(cell["connections"][port][0]) for port in used]
        if any(self._users[cell["connections"][port][0]] > 1 for port in used):
            return None
        control = self._common(names)
        if control is not None:
            for port, name in zip(used, names):
                cell["connections"][port] = self._top["cells"].pop(name)["connections"]["Q"]
        return control

    def take_before(self, cell: dict[str, Any], ports: list[str]) -> tuple[Any, Any] | None:
        """The same with inputs that are no constants."""
        used    = [port for port in ports if isinstance(cell["connections"][port][0], int)]
        names   = [self._behind.get(cell["connections"][port][0]) for port in used]
        control = self._common(names)
        if control is not None:
            for port, name in zip(used, names):
                cell["connections"][port] = self._take(name)["DI"]
        return control


def _users(top: dict[str, Any]) -> collections.Counter[Any]:
    """Readers of each net."""
    users = collections.Counter(
        bit for cell in top["cells"].values() for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "input" for bit in bits)
    users.update(bit for port in top["ports"].values() if port["direction"] == "output" for bit in port["bits"])
    return users


def absorb(top: dict[str, Any]) -> None:
    """Move registers into the blocks of an ECP5 before and behind which they stand."""
    registers = _Registers(top)
    for cell in list(top["cells"].values()):
        match cell["type"]:
            case "DP16KD":
                # What a port of 36 bits reads leaves through the pins of both, under the control of port B.
                wide = int(cell["parameters"]["DATA_WIDTH_B"], 2) == 36
                for sides in ("AB",) if wide else ("A", "B"):
                    control = registers.take_behind(cell, [f"DO{side}{bit}" for side in sides for bit in range(18)])
                    for side in sides if control is not None else ():
                        assert cell["connections"][f"CLK{side}"][0] == control[0]
                        cell["parameters"][f"REGMODE_{side}"] = "OUTREG"
                        cell["connections"][f"OCE{side}"] = [control[1]]
            case "MULT18X18D":
                _absorb_multiplier(registers, cell)


def _absorb_multiplier(registers: _Registers, cell: dict[str, Any]) -> None:
    # The last register is the output's and the one before it the pipeline's. All must have the same control, because
    # the connections of the block are few.
    outputs = [f"P{bit}" for bit in range(36)]
    found   = {"OUTPUT": registers.take_behind(cell, outputs)}
    if found["OUTPUT"] is not None:
        found["PIPELINE"] = registers.take_behind(cell, outputs)
    for side in "AB":
        found[f"INPUT{side}"] = registers.take_before(cell, [f"{side}{bit}" for bit in range(18)])
    for index, control in enumerate(dict.fromkeys(control for control in found.values() if control is not None)):
        for port, bit in (("CLK", control[0]), ("CE", control[1]), ("RST", "0")):
            cell["connections"][f"{port}{index}"] = [bit]
            cell["port_directions"][f"{port}{index}"] = "input"
        for stage, each in found.items():
            if each == control:
                cell["parameters"] |= {f"REG_{stage}_CLK": f"CLK{index}", f"REG_{stage}_CE": f"CE{index}",
                                       f"REG_{stage}_RST": f"RST{index}"}


def trim_carries(top: dict[str, Any]) -> None:
    """Disconnect carries that nobody reads. Nextpnr takes any net for one that leaves the chain."""
    users = _users(top)
    for cell in top["cells"].values():
        if cell["type"] == "CCU2C" and not users[cell["connections"]["COUT"][0]]:
            cell["connections"]["COUT"] = ["x"]
