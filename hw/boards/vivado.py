"""Boards whose FPGA needs Vivado: a block design around the machine, made by a script that runs unattended.

The script stops with an error if timing is missed. **Nobody has run these scripts on silicon, nor in Vivado on the
machine on which they were written**: the Verilog is linted, simulated and synthesised for its area by Yosys, the Tcl
follows the manuals (UG835, UG994, PG150, PG195, PG201, PG276).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from terngen.hw.boards.board import TapeMemory
from terngen.hw.contract.config import Config
from terngen.hw.estimate import Source

__all__ = ["AxiMemory", "MailboxLink", "wrapper"]

#: Name of the module with the names that Vivado knows, and of its file.
TOP = "terngen_board"


@dataclasses.dataclass(frozen=True)
class AxiMemory(TapeMemory):
    """Memory behind AXI4 ports, over which the tape is striped.

    Parameters
    ----------
    title : :class:`str`
    octets : :class:`int`
        For the tape, all ports together.
    channels, width : :class:`int`
        Ports, and their bits.
    bases : sequence of :class:`int`
        Address of the tape at each port.
    addr_width : :class:`int`
        Bits of an address.
    peak_bytes : :class:`int`
        Octets that the memory gives in a second, by its data sheet; the ports may ask for less.
    busy : :class:`float`
        Share of its time in which it refreshes: an assumption, from tRFC and tREFI.
    """

    title:      str
    octets:     int
    channels:   int
    width:      int
    peak_bytes: int
    bases:      tuple[int, ...] = ()
    addr_width: int = 32
    busy:       float = 0.03
    config:     Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def bits(self) -> int:      # type: ignore[override]    # of the class, says mypy
        return self.channels * self.width

    def source(self, config: Config, clock_hz: int, image: bytes) -> Any:
        from terngen.hw.tape.striped import StripedTape
        return StripedTape(config, channels=self.channels, addr_width=self.addr_width, bases=self.bases or None)

    def timing(self, clock_hz: int) -> Source:
        rate = min(Fraction(1), Fraction(self.peak_bytes, clock_hz * self.bits // 8).limit_denominator(256))
        return Source(latency=40, requests=16, rate=rate, refresh_period=1000, refresh_pause=round(1000 * self.busy))


@dataclasses.dataclass(frozen=True)
class MailboxLink:
    """The link as registers of the host, see :mod:`~terngen.hw.link.mailbox`.

    Parameters
    ----------
    title : :class:`str`
        The way to them.
    rate : :class:`float`
        Octets in a second: an assumption.
    """

    title: str
    rate:  float

    def component(self, clock_hz: int) -> Any:
        """The device's end."""
        from terngen.hw.link.mailbox import Mailbox
        return Mailbox()


def wrapper(ports: list[tuple[str, str, int]], top: str = TOP, inner: str = "terngen") -> str:
    """Verilog of a module around the machine with the names that Vivado takes for interfaces.

    Ports ``axi__0__araddr`` become ``m_axi_0_araddr``, ``bus__awaddr`` become ``s_axi_awaddr``; the reset is low.

    Parameters
    ----------
    ports
        Direction, name and width of the ports of the machine, but for its clock and its reset.
    """
    named  = [(direction, name, _renamed(name), width) for direction, name, width in ports]
    busses = sorted({outer.rpartition("_")[0] for _, _, outer, _ in named if outer.startswith(("m_axi_", "s_axi_"))})
    lines  = [f"module {top} (",
              f'  (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF {":".join(busses)}, ASSOCIATED_RESET aresetn" *)',
              "  input wire aclk,", "  input wire aresetn,"]
    lines += [f"  {direction} wire {_range(width)}{outer}," for direction, _, outer, width in named]
    lines[-1] = lines[-1].removesuffix(",")
    lines += [");", f"  {inner} machine (", "    .clk(aclk),", "    .rst(~aresetn),"]
    lines += [f"    .{name}({outer})," for _, name, outer, _ in named]
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join([*lines, "  );", "endmodule", ""])


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _renamed(name: str) -> str:
    parts = name.split("__")
    if parts[0] == "axi":
        return f"m_axi_{parts[1]}_{parts[2]}"
    if parts[0] == "bus":
        return f"s_axi_{parts[1]}"
    return "_".join(parts)


#: Begins a script: the project, the sources, the block design with the machine in it.
_BEGIN = """\
# Builds {name}.bit for {title} ({device}): vivado -mode batch -source build.tcl
# {remark}
set here [file dirname [file normalize [info script]]]
create_project -force terngen $here/vivado -part {part}
{board_part}add_files -norecurse [list $here/terngen.v $here/{top}.v]
{constraints}update_compile_order -fileset sources_1
create_bd_design system
set machine [create_bd_cell -type module -reference {top} machine]
set channels {channels}
"""

#: Ends it: everything joined, built, and judged.
_END = """\
assign_bd_address
validate_bd_design
save_bd_design
make_wrapper -files [get_files system.bd] -top -import
set_property top system_wrapper [current_fileset]
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} { error "Implementation failed" }
open_run impl_1
report_timing_summary -file $here/timing.rpt
report_utilization -hierarchical -file $here/utilisation.rpt
if {[get_property SLACK [get_timing_paths -setup]] < 0} { error "Timing is missed; see timing.rpt" }
write_bitstream -force $here/terngen.bit
"""


def files(board: Any, system: Any, *, part: str, memory: Any, design: Sequence[str], board_part: str = "",
          constraints: str = "") -> dict[str, str]:
    """Verilog, constraints and script of a board.

    Parameters
    ----------
    part, board_part : :class:`str`
        As Vivado names the device and the board.
    design : sequence of :class:`str`
        Names of Tcl files beside this one, which put clock, memory and link around the cell ``machine``; it has
        ``$channels`` ports.
    constraints : :class:`str`
        Name of a file in ``constraints/``.
    """
    from importlib import resources

    from amaranth.back import verilog

    from terngen.hw import build
    here   = resources.files("terngen.hw.boards")
    ports  = build.component_ports(system)
    listed = [(direction.value, name, len(value)) for name, (value, direction) in ports.items()]
    begin  = _BEGIN.format(
        name="terngen", title=board.title, device=board.device, remark="Not run by its authors.", part=part, top=TOP,
        board_part=f"set_property board_part {board_part} [current_project]\n" if board_part else "",
        constraints=f"add_files -fileset constrs_1 -norecurse $here/{constraints}\n" if constraints else "",
        channels=memory.channels)
    made = {
        "terngen.v":  verilog.convert(system, name="terngen", ports=ports, strip_internal_attrs=True),
        f"{TOP}.v":   wrapper(listed),
        "build.tcl":  begin + "".join(here.joinpath(f"{name}.tcl").read_text() for name in design) + _END,
    }
    if constraints:
        made[constraints] = resources.files("terngen.constraints").joinpath(constraints).read_text()
    return made
