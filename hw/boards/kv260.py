"""AMD Kria KV260: the memory of the processor over four ports, and registers for its program."""

from terngen.hw.boards import vivado
from terngen.hw.boards.board import Board

__all__ = ["BASE", "BOARD", "OCTETS"]

#: Memory that the device tree keeps from the operating system, in the part of it that has 32-bit addresses; a
#: quarter of it at each port.
BASE, OCTETS = 0x4000_0000, 0x3000_0000

#: Overlay for the device tree: the bitstream, memory that nobody else uses, and the registers as a UIO device.
OVERLAY = f"""\
/dts-v1/;
/plugin/;
/* dtc -@ -O dtb -o terngen.dtbo terngen.dts; put it beside terngen.bit.bin below /lib/firmware/xilinx/terngen and call
   xmutil loadapp terngen. Memory must be reserved before the system starts: add the node reserved-memory to its device
   tree, or give the kernel mem={BASE >> 20}M. The registers are then /dev/uio*, of the name terngen, for the command
   line option --device mmap:/dev/uioN; a udev rule lets a group use them:
   SUBSYSTEM=="uio", ATTR{{name}}=="terngen", GROUP="dialout", MODE="0660" */
/ {{
    fragment@0 {{
        target = <&fpga_full>;
        __overlay__ {{ firmware-name = "terngen.bit.bin"; }};
    }};
    fragment@1 {{
        target-path = "/";
        __overlay__ {{
            #address-cells = <2>;
            #size-cells = <2>;
            reserved-memory {{
                #address-cells = <2>;
                #size-cells = <2>;
                ranges;
                tape@{BASE:x} {{ reg = <0x0 0x{BASE:08x} 0x0 0x{OCTETS:08x}>; no-map; }};
            }};
            terngen@80000000 {{ compatible = "generic-uio"; reg = <0x0 0x80000000 0x0 0x1000>; }};
        }};
    }};
}};
"""

_DDR = vivado.AxiMemory("DDR4 x64 of the processor, 2400 MT/s", OCTETS, channels=4, width=128, addr_width=40,
                        peak_bytes=19_200_000_000, bases=tuple(BASE + index * OCTETS // 4 for index in range(4)))


def scripts(board, system):
    made = vivado.files(board, system, part="xck26-sfvc784-2LV-c", memory=_DDR, design=["kv260"],
                        board_part="xilinx.com:kv260_som:part0:1.4")
    return made | {"terngen.dts": OVERLAY}


BOARD = Board(
    name     = "kv260",
    title    = "AMD Kria KV260",
    device   = "XCK26-SFVC784-2LV-C",
    cells    = {"lut": 117120, "ff": 234240, "bram": 288, "dsp": 1248},
    family   = "xcup",
    tier     = 3,
    clock_hz = 200_000_000,
    memories = {"ddr4": _DDR},
    link     = vivado.MailboxLink("registers of the processor", 8e6),
    scripts  = scripts,
    remarks  = "Verilog, scripts for Vivado and a device tree overlay; not run in Vivado and not tried on silicon.",
)
