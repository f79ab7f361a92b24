"""What is proven to be no defect is none."""

import pytest

from terngen.hw import build
from terngen.sim import equivalence
from terngen.sim.equivalence import proof

#: `same` has the same value twice; `late` is looked at where `busy` says so only, and is known then.
DESIGN = """
module top(input clk, input [3:0] a, input [3:0] b, output reg [3:0] o, output o_late);
    wire [3:0] either = a | b;
    wire [3:0] same = either | (a & b);
    always @(posedge clk) o <= same;
    reg [1:0] state = 0;
    always @(posedge clk) state <= state == 2 ? 2'd0 : state + 2'd1;
    assign o_late = state == 3 ? a[0] : a[1];
endmodule
"""


#: The last bit of a word is written, and looked at by a register that nobody looks at.
MEMORY = """
module top(input clk, input [1:0] place, input [3:0] d, output [2:0] q);
    reg [3:0] words [0:3];
    wire [3:0] word = words[place];
    reg last;
    always @(posedge clk) words[place] <= d;
    always @(posedge clk) last <= word[3];
    assign q = word[2:0];
endmodule
"""


#: Of a word that is kept or taken the middle is always zero, and the last always one.
CONSTANT = """
module top(input clk, input reset, input en, input keep, input a, output [3:0] o);
    reg [3:0] word = 4'b1000;
    always @(posedge clk)
        if (reset) word <= 4'b1000;
        else if (en) word <= keep ? word : {2'b10, !a, a};
    assign o = word;
endmodule
"""


def make(folder, design: str) -> str:
    (folder / "top.v").write_text(design)
    (folder / "make.ys").write_text("read_verilog top.v\nproc\nmemory_collect\nopt_clean\nwrite_rtlil flat.il\n")
    build.run_tool(build.YOSYS, ["make.ys"], folder)
    return (folder / "flat.il").read_text()


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    return make(tmp_path_factory.mktemp("netlist"), DESIGN)


def cell(netlist: str, kind: str, place: int = 0) -> str:
    return [line.split()[2] for line in netlist.splitlines() if line.startswith(f"  cell ${kind} ")][place]


def test_redundant(netlist):
    """A product that is there anyway."""
    assert proof(netlist, f"mutate -mode const0 -module top -cell {cell(netlist, 'and')} -port Y -portbit 1")


def test_unreachable(netlist):
    """A state that there never is, which only what comes before tells."""
    late = next(line.split()[2] for line in netlist.splitlines() if line.startswith("  cell $mux ")
                and "connect \\Y \\o_late" in netlist[netlist.index(line):][:600])
    assert proof(netlist, f"mutate -mode inv -module top -cell {late} -port B -portbit 0")


@pytest.mark.parametrize("mode", ["inv", "const0", "const1"])
def test_defect(netlist, mode):
    assert proof(netlist, f"mutate -mode {mode} -module top -cell {cell(netlist, 'or')} -port Y -portbit 2") is None


@pytest.mark.parametrize("bit, unseen", [(3, True), (2, False)])
def test_written(tmp_path, bit, unseen):
    """What is written wrong, and read by nobody."""
    command = f"mutate -mode inv -module top -cell \\words -port WR_DATA -portbit {bit}"
    assert (proof(make(tmp_path, MEMORY), command) is not None) == unseen


def test_constants(tmp_path):
    """What a register begins with, is reset to and takes; but not what it begins with only."""
    bits = [(r"\word", place) for place in range(4)]
    assert equivalence._Netlist(make(tmp_path, CONSTANT)).constants == {bits[2]: "0", bits[3]: "1"}
    for change in ("= 4'b1000;", "= 4'b1100;"), ("<= 4'b1000;", "<= 4'b1100;"), ("{2'b10,", "{!a, 1'b0,"):
        other = equivalence._Netlist(make(tmp_path, CONSTANT.replace(*change))).constants
        assert other == ({bits[2]: "0"} if "a" in change[1] else {bits[3]: "1"}), change
