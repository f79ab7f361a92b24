"""Proofs that a defect in a netlist is none: no input ever shows a difference.

The cells that a defect can reach are there twice, with the defect and without; all that they depend on is there once,
and what is further away is free. Yosys then proves that both copies give the same to whoever is outside. Reach and
context grow until it does: from one side of a register to the other (all states are tried then, also those that a
machine never gets into), and through several registers, by induction.
"""

import dataclasses
import re
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

from terngen.hw import build

__all__ = ["proof"]

#: Registers that are passed on the way from the defect, and on the way to what it meets there.
REACHES = ((0, 0), (0, 1), (0, 2), (0, 5), (1, 1), (1, 5), (2, 2), (2, 5), (4, 2), (8, 1))
#: Most cells of a proof.
CELLS = 300
#: Most steps of an induction.
STEPS = 6
#: Seconds that a solver has.
SECONDS = 2

#: Cells whose results hang on operands bit by bit.
_BITWISE = ("$and", "$or", "$xor", "$xnor", "$not", "$pos")
#: Registers without anything that is not synchronous.
_CLOCKED = ("$dff", "$dffe", "$sdff", "$sdffe", "$sdffce")

#: A bit of a wire, or a constant.
Bit = tuple[str, int] | str


@dataclasses.dataclass
class _Cell:
    """A cell: its lines, and the bits at its ports."""

    kind:       str
    name:       str
    parameters: list[str]
    ports:      dict[str, list[Bit]]

    @property
    def outputs(self) -> set[str]:
        """Ports that it drives."""
        return {"RD_DATA"} if self.kind == "$mem_v2" else {"Q"} if self.is_register else {"Y"}

    @property
    def is_register(self) -> bool:
        return "dff" in self.kind

    def reached(self, bit: Bit) -> set[Bit]:
        """Bits that it drives and that another bit may change."""
        [driven] = (self.ports[port] for port in self.outputs)
        found: set[Bit] = set()
        for port, bits in self.ports.items():
            if port in self.outputs or bit not in bits:
                continue
            places = [place for place, each in enumerate(bits) if each == bit]
            if self.is_register and port == "D" or self.kind in ("$mux", "$pmux") and port != "S":
                found |= {driven[place % len(driven)] for place in places}
            elif self.kind in _BITWISE and places[-1] < len(bits) - 1:
                found |= {driven[place] for place in places if place < len(driven)}
            elif self.kind in (*_BITWISE, "$add", "$sub"):
                # A carry, or the bit by which an operand is extended.
                found |= set(driven[places[0]:])
            else:
                found |= set(driven)
        return found

    def bits(self, *, driven: bool) -> Iterator[Bit]:
        for port, bits in self.ports.items():
            if (port in self.outputs) == driven:
                yield from bits


class _Netlist:
    """A flat module in RTLIL, as Yosys writes it."""

    def __init__(self, text: str) -> None:
        self.cells:  dict[str, _Cell] = {}
        self._widths: dict[str, int] = {}
        self.initial: dict[Bit, str] = {}
        aliases: dict[Bit, Bit] = {}
        outside: set[str] = set()
        initial, cell = "", None
        for line in text.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "attribute" and rest.startswith("\\init "):
                initial = _constant(rest.split(" ")[1])
            elif word == "wire":
                width = re.search(r"\bwidth (\d+)", rest)
                name  = rest.split(" ")[-1]
                self._widths[name] = int(width[1]) if width else 1
                if " output " in f" {rest} ":
                    outside.add(name)
                for place, value in enumerate(reversed(initial)):
                    self.initial[name, place] = value
                initial = ""
            elif word == "cell":
                kind, name = rest.split(" ", 1)
                cell = self.cells[name] = _Cell(kind, name, [], {})
            elif word == "parameter" and cell is not None:
                cell.parameters.append(line)
            elif word == "connect" and cell is not None:
                port, value = rest.split(" ", 1)
                cell.ports[port[1:]] = self._bits(value)
            elif word == "connect":
                left, right = self._sides(rest)
                aliases.update(zip(self._bits(left), self._bits(right), strict=True))
            elif word == "end":
                cell = None

        def driver(bit: Bit) -> Bit:
            while bit in aliases:
                bit = aliases[bit]
            return bit

        self.driver: dict[Bit, _Cell] = {}
        self.consumers: dict[Bit, list[_Cell]] = defaultdict(list)
        for each in self.cells.values():
            each.ports = {port: [driver(bit) for bit in bits] for port, bits in each.ports.items()}
            for bit in each.bits(driven=True):
                self.driver[bit] = each
            for bit in set(each.bits(driven=False)):
                self.consumers[bit].append(each)
        #: Bits that leave the machine.
        self.outside = {driver((name, place)) for name in outside for place in range(self._widths[name])}
        #: Bits of registers that stay what they are at first.
        self.constants = self._constants()

    def _constants(self) -> dict[Bit, str]:
        """All at once: those that are left when those have gone that something else gets into, again and again."""
        kept = {bit: self.initial[bit] for bit, cell in self.driver.items()
                if cell.kind in _CLOCKED and self.initial.get(bit) in ("0", "1")}

        def value(bit: Bit) -> str | None:
            if isinstance(bit, str) or bit in kept:
                return kept.get(bit, str(bit))
            cell = self.driver.get(bit)
            if cell is None or cell.kind != "$mux":
                return None
            place = cell.ports["Y"].index(bit)
            first, second = (value(cell.ports[port][place]) for port in "AB")
            return first if first == second else None

        def stays(bit: Bit) -> bool:
            cell   = self.driver[bit]
            place  = cell.ports["Q"].index(bit)
            resets = [_constant(line.split()[-1])[-1 - place] for line in cell.parameters if "RST_VALUE" in line]
            return {value(cell.ports["D"][place]), *resets} == {kept[bit]}

        while gone := [bit for bit in kept if not stays(bit)]:
            for bit in gone:
                del kept[bit]
        return kept

    def tap(self, bits: list[Bit]) -> _Cell:
        """A cell behind some bits, through which the first of them goes to whoever takes it."""
        [first, *_] = bits
        made  = [(r"\tap", place) for place in range(len(bits))]
        cell  = _Cell("$pos", r"\tap", [r"    parameter \A_SIGNED 0", rf"    parameter \A_WIDTH {len(bits)}",
                                        rf"    parameter \Y_WIDTH {len(bits)}"], {"A": bits, "Y": made})
        for other in self.consumers.pop(first, []):
            other.ports = {port: [made[0] if bit == first and port not in other.outputs else bit for bit in taken]
                           for port, taken in other.ports.items()}
            self.consumers[made[0]].append(other)
        if first in self.outside:
            self.outside |= {made[0]}
        self.cells[cell.name] = cell
        self.driver |= dict.fromkeys(made, cell)
        return cell

    @staticmethod
    def _sides(text: str) -> tuple[str, str]:
        depth = 0
        for place, letter in enumerate(text):
            depth += (letter == "{") - (letter == "}")
            if letter == " " and depth == 0 and text[place + 1:place + 2] != "[":
                return text[:place], text[place + 1:]
        raise ValueError(f"Connection must have two sides, not {text!r}")

    def _bits(self, text: str) -> list[Bit]:
        """From the lowest to the highest."""
        words, found = text.replace("{", " ").replace("}", " ").split(), []
        for place, word in enumerate(words):
            if word.startswith("["):
                continue
            if word[0].isdigit() or word[0] == "-":
                found.append(list(reversed(_constant(word))))
                continue
            if not word.startswith(("\\", "$")):
                raise ValueError(f"Signal must be a wire or a constant, not {word!r}")
            after = words[place + 1] if place + 1 < len(words) and words[place + 1].startswith("[") else None
            high, _, low = (after or f"[{self._widths[word] - 1}:0]")[1:-1].partition(":")
            found.append([(word, bit) for bit in range(int(low or high), int(high) + 1)])
        return [bit for part in reversed(found) for bit in part]


def _constant(word: str) -> str:
    """Bits of a constant, the highest first."""
    width, quote, bits = word.partition("'")
    if not quote:
        return f"{int(word) % (1 << 32):032b}"
    return bits.rjust(int(width), "0" if bits[:1] in "01" else bits[0])


class _Miter:
    """Both copies of what a defect reaches through so many registers, and what that depends on through so many."""

    def __init__(self, netlist: _Netlist, cell: _Cell, reach: int, context: int) -> None:
        self._netlist = netlist
        #: Bits that may differ, and the cells that make them; the first is that of the defect.
        self.changed, self.affected = self._affected(cell, reach)
        self.shared = self._shared(context)
        inside      = {each.name for each in self.affected}
        #: Bits that others see.
        self.seen   = [bit for bit in self.changed if bit in netlist.outside
                       or any(other.name not in inside for other in netlist.consumers[bit])]

    def _affected(self, cell: _Cell, reach: int) -> tuple[dict[Bit, int], list[_Cell]]:
        begin  = int(cell.is_register)
        cells  = {cell.name: cell}
        levels = dict.fromkeys(cell.bits(driven=True), begin)
        queue  = deque(levels)
        while queue:
            bit = queue.popleft()
            for other in self._netlist.consumers[bit]:
                level = levels[bit] + other.is_register
                if other.kind == "$mem_v2" or level > reach + begin:
                    continue
                cells[other.name] = other
                for reached in other.reached(bit):
                    if level < levels.get(reached, 99):
                        levels[reached] = level
                        queue.append(reached)
        return levels, list(cells.values())

    def _shared(self, context: int) -> list[_Cell]:
        levels = {each.name: 0 for each in self.affected}
        inside = set(levels)
        queue  = deque(self.affected)
        while queue:
            each = queue.popleft()
            for bit in each.bits(driven=False):
                other = self._netlist.driver.get(bit)
                if other is None or other.kind == "$mem_v2":
                    continue
                level = levels[each.name] + other.is_register
                if level > context or level >= levels.get(other.name, 99):
                    continue
                levels[other.name] = level
                queue.append(other)
        return [self._netlist.cells[name] for name in levels if name not in inside]

    @property
    def cells(self) -> list[_Cell]:
        """All that it is made of, those that are there twice first."""
        return self.affected + self.shared

    def text(self) -> str:
        """A module ``miter``; its output ``differ`` is whether somebody sees a difference."""
        names: dict[tuple[Bit, bool], str] = {}

        def name(bit: Bit, copy: bool) -> str:
            if isinstance(bit, str):
                return f"1'{bit}"
            return names.setdefault((bit, copy), f"\\n{len(names)}")

        def known(bit: Bit) -> str:
            return name(self._netlist.constants.get(bit, bit), False)

        cells = []
        for copy, each in [*((False, each) for each in self.affected + self.shared),
                           *((True, each) for each in self.affected)]:
            called = "\\defect" if copy and each is self.affected[0] else f"$c{len(cells)}"
            # The copy drives bits of its own, but looks at those that cannot differ where everybody does.
            ports  = {port: " ".join(known(bit) if port not in each.outputs and bit not in self.changed
                                     else name(bit, copy) for bit in reversed(bits))
                      for port, bits in each.ports.items()}
            cells += [f"  cell {each.kind} {called}", *each.parameters,
                      *(f"    connect \\{port} {{ {bits} }}" for port, bits in ports.items()), "  end"]
        pairs = [(name(bit, False), name(bit, True)) for bit in self.seen]
        width = len(pairs)
        cells += ["  cell $ne $differ", *(f"    parameter \\{which}_SIGNED 0" for which in "AB"),
                  *(f"    parameter \\{which}_WIDTH {width}" for which in "AB"), "    parameter \\Y_WIDTH 1",
                  f"    connect \\A {{ {' '.join(gold for gold, _ in pairs)} }}",
                  f"    connect \\B {{ {' '.join(other for _, other in pairs)} }}", "    connect \\Y \\differ", "  end"]
        driven = {bit for each in self.cells for bit in each.bits(driven=True)}
        wires  = []
        for index, ((bit, _), wire) in enumerate(names.items()):
            if (initial := self._netlist.initial.get(bit)) in ("0", "1") and bit in driven:
                wires.append(f"  attribute \\init 1'{initial}")
            wires.append(f"  wire {f'input {index + 2} ' if bit not in driven else ''}{wire}")
        return "\n".join(["module \\miter", "  wire output 1 \\differ", *wires, *cells, "end", ""])


def proof(netlist: str, command: str) -> str | None:
    """How it is proven that a command ``mutate`` changes nothing that anybody sees, or nothing if it is not.

    Parameters
    ----------
    netlist : :class:`str`
        A flat module in RTLIL.
    command : :class:`str`
        Command of Yosys.
    """
    whole  = _Netlist(netlist)
    chosen = dict(re.findall(r"-(mode|cell|port|portbit|ctrlbit) (\S+)", command))
    cell   = whole.cells.get(chosen["cell"]) or whole.cells["\\" + chosen["cell"]]
    if cell.kind == "$mem_v2":
        # A memory is not copied; the defect is behind it.
        data = cell.ports["RD_DATA"]
        if chosen["port"] == "WR_DATA" and len(data) == len(cell.ports["WR_DATA"]):
            # What is written wrong is read wrong, now and then.
            tap = whole.tap([data[int(chosen["portbit"])]])
            return "nobody sees it" if any(not _Miter(whole, tap, reach, 0).seen for reach in range(3)) else None
        if chosen["port"] != "RD_DATA":
            return None
        cell = whole.tap([data[int(chosen[name])] for name in ("portbit", "ctrlbit") if name in chosen])
        chosen |= {"port": "Y", "portbit": "0"} | ({"ctrlbit": "1"} if "ctrlbit" in chosen else {})
    options  = " ".join(f"-{name} {value}" for name, value in chosen.items() if name != "cell")
    attempts: dict[tuple[int, int], tuple[str, _Miter]] = {}       # by size
    for reach, context in REACHES:
        miter = _Miter(whole, cell, reach, context)
        if not miter.seen:
            return "nobody sees it"
        size = len(miter.affected), len(miter.shared)
        if sum(size) > CELLS:
            break
        attempts.setdefault(size, (f"{reach} registers on, {context} back", miter))
    return _first(list(attempts.values()), f"mutate {options} -module miter -cell \\defect")


def _first(attempts: list[tuple[str, _Miter]], change: str) -> str | None:
    """The first of some proofs that holds, in one run of Yosys, which stops there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = []
        for index, (_, miter) in enumerate(attempts):
            (folder / f"{index}.il").write_text(miter.text())
            how = f"-tempinduct -maxsteps {STEPS}" if any(cell.is_register for cell in miter.cells) else ""
            script.append(
                f"design -reset\nread_rtlil {index}.il\n{change}\nopt_expr\nopt_merge -share_all\n"
                f"opt -full -share_all\ndffunmap\nopt_clean\ntee -q -o tried.{index} stat\n"
                f"sat -falsify-no-timeout -prove differ 0 -timeout {SECONDS} {how} miter\n")
        (folder / "prove.ys").write_text("".join(script))
        try:
            build.run_tool(build.YOSYS, ["prove.ys"], folder)
        except build.BuildError as error:
            if "proof did succeed" not in str(error):
                raise
            return attempts[len(list(folder.glob("tried.*"))) - 1][0]
    return None
