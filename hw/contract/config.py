"""Sizes and choices of one machine."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from amaranth.lib import enum
from amaranth.utils import ceil_log2

from terngen.hw.contract.formats import PATH, FloatFormat, Multiplier
from terngen.hw.contract.trits import GRAY_STEPS, TRITS_PER_BYTE, TritCode

__all__ = ["BUFFERS", "ArrayVariant", "Config", "Control", "EMBEDDING_BITS", "EXACT", "PARAMETER_BITS", "PRESETS",
           "PROGRAM_LENGTH", "PROGRAM_STATE", "Sites", "VECTOR_BITS"]

#: The multiplier that rounds to nearest even.
EXACT = Multiplier("exact")
#: Fields that follow from a model.
BUFFERS = ("hidden", "wide", "rows", "state")
#: Bits of one parameter (norm weight, lower bound) on the tape.
PARAMETER_BITS = 16
#: Elements of a vector, and of the state, that a machine with a processor has room for.
PROGRAM_LENGTH = 256
PROGRAM_STATE  = 14336
#: Bits of one embedding element on the tape in a format of its own.
EMBEDDING_BITS = 8
#: Bits of one embedding element on the tape in the format of the path.
VECTOR_BITS = 32


class ArrayVariant(enum.Enum):
    """How the ternary array multiplies. It decides the code of a trit octet on the tape."""

    #: Adder tree with conditional inversion.
    TREE  = "tree"
    #: Tables of all sums of five activations, in block RAM; an octet of trits is the address of its sum.
    TABLE = "table"
    #: Tables of the sums of three activations, in distributed RAM, and an adder for the other two of an octet.
    TRIPLES = "triples"

    @property
    def trit_code(self) -> TritCode:
        return {ArrayVariant.TREE: TritCode.PAIRS, ArrayVariant.TABLE: TritCode.GRAY,
                ArrayVariant.TRIPLES: TritCode.TRIPLES}[self]


class Control(enum.Enum):
    """What the machine is made of besides the ternary array."""

    #: Units that work side by side, an element in each cycle.
    UNITS   = "units"
    #: A processor with a program, for the smallest devices: one thing after the other.
    PROGRAM = "program"


@dataclasses.dataclass(frozen=True)
class Sites:
    """The multiplier of each element-wise product of the machine."""

    #: Sum of a row, as a float, times the scale of its matrix and token.
    dequantise:  Multiplier = EXACT
    #: Element times merged norm weight.
    norm:        Multiplier = EXACT
    #: Weighted element times 127 / peak.
    quantise:    Multiplier = EXACT
    #: Squares under the root mean square.
    square:      Multiplier = EXACT
    #: (1 - lower bound) * sigmoid(-f).
    gate:        Multiplier = EXACT
    #: x * sigmoid(x), for the candidate, the state and the GLU.
    silu:        Multiplier = EXACT
    #: z * (c - h).
    recurrence:  Multiplier = EXACT
    #: g * silu(h).
    output:      Multiplier = EXACT
    #: silu(p) * v.
    glu:         Multiplier = EXACT

    @classmethod
    def all(cls, multiplier: Multiplier) -> Self:
        """The same multiplier everywhere."""
        return cls(**{field.name: multiplier for field in dataclasses.fields(cls)})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Multipliers as ``lmul``, ``recurrence=lmul,gate=lmul`` or ``lmul,norm=exact``; where nothing is said, exact.

        Raises
        ------
        ValueError
            If there is no such product or multiplier.
        """
        chosen: dict[str, Multiplier] = {}
        names = [field.name for field in dataclasses.fields(cls)]
        for part in text.split(","):
            name, equals, multiplier = part.rpartition("=")
            if equals and name not in names:
                raise ValueError(f"Product must be one of {', '.join(names)}, not {name!r}")
            chosen |= dict.fromkeys([name] if equals else names, Multiplier.parse(multiplier))
        return cls(**chosen)

    def to_dict(self) -> dict[str, str]:
        """Names of multipliers by product."""
        return {field.name: str(getattr(self, field.name)) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what the gateware is and how a tape for it looks.

    Parameters
    ----------
    variant : :class:`ArrayVariant`
        Structure of the ternary array.
    beat_bits : :class:`int`
        Width of a tape beat: a power of two from 16 to 1024.
    row_lanes : :class:`int`
        Rows of a matrix in one beat: a power of two, at most the octets of a beat.
    builders : :class:`int`
        Tables that are filled at a time, a power of two, at most the octets that a row has in a beat.
        With zero there are as many as hide the filling behind a matrix of ``hidden`` rows, or all.
        Only for :attr:`ArrayVariant.TABLE`.
    lanes : :class:`int`
        Elements that the vector unit works on at a time: a power of two up to 256.
    slots : :class:`int`
        Activation vectors served by each weight beat, 1 to 16.
    hidden : :class:`int`
        Longest residual vector.
    wide : :class:`int`
        Longest vector between two projections; the longest row of a matrix.
    rows : :class:`int`
        Rows of the tallest row tile.
    state : :class:`int`
        Recurrent state of one slot, all layers together, in elements.
    prefetch : :class:`int`
        Beats that the reader may hold ahead of the machine, a power of two.
    top_k : :class:`int`
        Candidates that the sampler keeps for each slot, 1 to 15.
    history : :class:`int`
        Steps that the machine makes by itself at most, a power of two.
    path : :class:`FloatFormat`
        Format of element-wise values, at most 23 bits.
    embedding : :class:`FloatFormat` or None
        Format of embedding rows on the tape, at most :data:`EMBEDDING_BITS`; by default that of parameters. With that
        of the path a row can be the residual vector of another machine.
    readable : :class:`bool`
        Whether a host can read the residual vectors, to hand them to another machine.
    sites : :class:`Sites`
        Multiplier of each product.
    control : :class:`Control`
        Whether units or a processor do what the array does not.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is out of its range, or a multiplier does not fit the path format.
    """

    variant:   ArrayVariant = ArrayVariant.TREE
    beat_bits: int          = 64
    row_lanes: int          = 2
    builders:  int          = 0
    lanes:     int          = 2
    slots:     int          = 1
    hidden:    int          = 256
    wide:      int          = 1024
    rows:      int          = 1024
    state:     int          = 2048
    prefetch:  int          = 64
    top_k:     int          = 8
    history:   int          = 256
    path:      FloatFormat  = PATH
    embedding: FloatFormat | None = None
    readable:  bool         = False
    sites:     Sites        = Sites()
    control:   Control      = Control.UNITS

    def __post_init__(self) -> None:
        def power_of_two(value: int) -> bool:
            return value > 0 and value & value - 1 == 0

        for name in ("beat_bits", "row_lanes", "builders", "lanes", "slots", "hidden", "wide", "rows",
                     "state", "prefetch", "top_k", "history"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        if not (power_of_two(self.beat_bits) and 16 <= self.beat_bits <= 1024):
            raise ValueError(f"Beat width must be a power of two from 16 to 1024, "
                             f"not {self.beat_bits}")
        if not (power_of_two(self.row_lanes) and self.row_lanes <= self.beat_bytes):
            raise ValueError(f"Row lanes must be a power of two and at most the octets of a beat "
                             f"({self.beat_bytes}), not {self.row_lanes}")
        if self.variant is not ArrayVariant.TABLE and self.builders:
            raise ValueError(f"Builders of tables must be zero where there are no tables, "
                             f"not {self.builders}")
        if self.builders and not (power_of_two(self.builders) and self.builders <= self.lane_bytes):
            raise ValueError(f"Builders must be zero, or a power of two and at most the octets of a "
                             f"row in a beat ({self.lane_bytes}), not {self.builders}")
        if not (power_of_two(self.lanes) and self.lanes <= 256):
            raise ValueError(f"Lanes must be a power of two from 1 to 256, not {self.lanes}")
        if self.slots not in range(1, 17):
            raise ValueError(f"Slots must be from 1 to 16, not {self.slots}")
        for name, longest in (("hidden", 1 << 14), ("wide", 1 << 15), ("rows", 1 << 16),
                              ("state", 1 << 20)):
            value = getattr(self, name)
            if value < 2 * self.lanes or value % self.lanes or value > longest:
                raise ValueError(f"{name.capitalize()} must be a multiple of the lanes "
                                 f"({self.lanes}) from {2 * self.lanes} to {longest}, not {value}")
        if self.hidden > self.wide:
            raise ValueError(f"Wide must be at least hidden ({self.hidden}), not {self.wide}")
        if not (power_of_two(self.prefetch) and 2 <= self.prefetch <= 1 << 16):
            raise ValueError(f"Prefetch must be a power of two from 2 to 65536, "
                             f"not {self.prefetch}")
        if self.top_k not in range(1, 16):
            raise ValueError(f"Top-k must be from 1 to 15, not {self.top_k}")
        if not (power_of_two(self.history) and 2 <= self.history <= 1 << 16):
            raise ValueError(f"History must be a power of two from 2 to 65536, not {self.history}")
        if self.path.width > 23:
            raise ValueError(f"Path format must have at most 23 bits, not {self.path.width}")
        if self.embedding not in (None, self.path) and (self.embedding.width > EMBEDDING_BITS
                                                        or not self.embedding.fits(self.path)):
            raise ValueError(f"Embedding format must have at most {EMBEDDING_BITS} bits, and no field longer than "
                             f"that of the path ({self.path}), or be that one, not {self.embedding}")
        if self.embedding_beats(self.hidden) > self.parameter_beats(self.wide):
            raise ValueError(f"Wide must be at least twice hidden ({self.hidden}) for embedding rows in the format of "
                             f"the path, not {self.wide}")
        if not isinstance(self.readable, bool):
            raise TypeError(f"readable must be true or false, not {self.readable!r}")
        for field in dataclasses.fields(Sites):
            getattr(self.sites, field.name).offset(self.path)       # refuses what does not fit
        if self.control is Control.PROGRAM:
            self._check_program()

    def _check_program(self) -> None:
        """Refuses what the program of the processor is not made for."""
        for name, only in (("beat_bits", 16), ("row_lanes", 1), ("lanes", 1), ("slots", 1), ("top_k", 1)):
            if getattr(self, name) != only:
                raise ValueError(f"{name} of a machine with a processor must be {only}, not {getattr(self, name)}")
        if self.history > PROGRAM_LENGTH:
            raise ValueError(f"history of a machine with a processor must be at most {PROGRAM_LENGTH}, "
                             f"not {self.history}")
        if self.path != FloatFormat(6, 9):
            raise ValueError(f"Path format of a machine with a processor must be e6m9, not {self.path}")
        if self.sites != Sites():
            raise ValueError("Multipliers of a machine with a processor must be exact")
        if self.readable or self.embedding == self.path:
            raise ValueError("Machine with a processor cannot be one of several that share a model")

    # Geometry of the tape.

    @property
    def beat_bytes(self) -> int:
        """Octets in a beat."""
        return self.beat_bits // 8

    @property
    def lane_bytes(self) -> int:
        """Octets of a beat that belong to one row."""
        return self.beat_bytes // self.row_lanes

    @property
    def block_cols(self) -> int:
        """Columns of a column block."""
        return self.lane_bytes * TRITS_PER_BYTE

    def blocks(self, cols: int) -> int:
        """Column blocks of a matrix with `cols` columns."""
        return -(-cols // self.block_cols)

    def groups(self, length: int) -> int:
        """Lane groups of a vector."""
        return -(-length // self.lanes)

    def row_groups(self, rows: int) -> int:
        """Row groups of a matrix: beats of one column block."""
        return -(-rows // self.row_lanes)

    def matrix_beats(self, rows: int, cols: int) -> int:
        """Beats of one row tile."""
        return self.blocks(cols) * self.row_groups(rows)

    def parameter_beats(self, length: int) -> int:
        """Beats of a parameter vector."""
        return -(-length * PARAMETER_BITS // self.beat_bits)

    def embedding_beats(self, length: int) -> int:
        """Beats of an embedding row."""
        return -(-length * self.embedding_bits // self.beat_bits)

    @property
    def embedding_format(self) -> FloatFormat:
        """Format of embedding rows: `embedding`, or that of parameters."""
        return self.path.parameter if self.embedding is None else self.embedding

    @property
    def embedding_bits(self) -> int:
        """Bits of an element of an embedding row."""
        if self.embedding is None:
            return PARAMETER_BITS
        return VECTOR_BITS if self.embedding.width > EMBEDDING_BITS else EMBEDDING_BITS

    @property
    def table_builders(self) -> int:
        """Tables that are filled at a time: `builders`, or what its rule gives."""
        if self.builders:
            return self.builders
        count = 1
        while count < self.lane_bytes and len(GRAY_STEPS) * self.lane_bytes > count * self.row_groups(self.hidden):
            count *= 2
        return count

    # Widths.

    @property
    def acc_width(self) -> int:
        """Bits of a row sum: ``wide`` products of at most 127."""
        return ceil_log2(self.wide) + 8

    @property
    def slot_bits(self) -> int:
        return max(1, ceil_log2(self.slots))

    @property
    def group_bits(self) -> int:
        """Bits of a lane group index in the longest vector or tile."""
        return max(1, ceil_log2(self.groups(max(self.wide, self.rows))))

    @property
    def draws(self) -> bool:
        """Whether the machine draws tokens by itself: where it has candidates to draw from."""
        return self.top_k > 1

    @property
    def row_group_bits(self) -> int:
        """Bits of a row group index in the tallest tile."""
        return max(1, ceil_log2(self.row_groups(self.rows)))

    # Identity.

    @property
    def choices(self) -> dict[str, Any]:
        """As :meth:`to_dict`, but for the buffers, which follow a model (:meth:`sized`)."""
        return {name: value for name, value in self.to_dict().items() if name not in BUFFERS}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as :meth:`from_dict` takes them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["variant"] = self.variant.value
        values["path"]    = str(self.path)
        if self.control is Control.UNITS:       # as it was before there was another
            del values["control"]
        else:
            values["control"] = self.control.value
        if self.embedding is None:
            del values["embedding"]
        else:
            values["embedding"] = str(self.embedding)
        if not self.readable:
            del values["readable"]
        values["sites"]   = self.sites.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `values` describe; what is not given has its default.

        Raises
        ------
        ValueError
            If a key is unknown or a value is refused.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise ValueError(f"Configuration has no {name!r}; it has "
                                 f"{', '.join(sorted(known))}")
        given = dict(values)
        if "variant" in given:
            variants = [variant.value for variant in ArrayVariant]
            if given["variant"] not in variants:
                raise ValueError(f"Variant must be one of {', '.join(variants)}, "
                                 f"not {given['variant']!r}")
            given["variant"] = ArrayVariant(given["variant"])
        if "control" in given:
            controls = [control.value for control in Control]
            if given["control"] not in controls:
                raise ValueError(f"Control must be one of {', '.join(controls)}, not {given['control']!r}")
            given["control"] = Control(given["control"])
        for name in ("path", "embedding"):
            if name in given:
                given[name] = FloatFormat.parse(str(given[name]))
        if "sites" in given:
            sites = {field.name for field in dataclasses.fields(Sites)}
            if not isinstance(given["sites"], Mapping):
                raise ValueError(f"Sites must name multipliers by product, not {given['sites']!r}")
            for name in given["sites"]:
                if name not in sites:
                    raise ValueError(f"There is no product {name!r}; there are "
                                     f"{', '.join(sorted(sites))}")
            given["sites"] = Sites(**{name: Multiplier.parse(str(text))
                                      for name, text in given["sites"].items()})
        return cls(**given)

    @property
    def digest(self) -> bytes:
        """Sixteen octets that name this machine, in ID registers, tapes and manifests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def check_room(self) -> None:
        """Look whether a machine can be made with these buffers.

        Raises
        ------
        ValueError
            If it is one with a processor, and has no room for them.
        """
        if self.control is Control.PROGRAM:
            for name, most in (("wide", PROGRAM_LENGTH), ("rows", PROGRAM_LENGTH), ("state", PROGRAM_STATE)):
                if getattr(self, name) > most:
                    raise ValueError(f"{name} of a machine with a processor must be at most {most}, "
                                     f"not {getattr(self, name)}")

    def sized(self, *, hidden: int, state: int, intermediate: int, layers: int) -> Self:
        """The same machine with buffers just large enough for a model.

        Parameters
        ----------
        hidden, state, intermediate, layers : :class:`int`
            Residual vector, state of one layer, GLU vector, number of layers.

        Raises
        ------
        ValueError
            If there is no such machine.
        """
        wide  = max(hidden, state, intermediate)
        sized = dataclasses.replace(self, hidden=hidden, wide=wide, rows=wide, state=layers * state)
        sized.check_room()
        return sized


#: Named machines. Buffer sizes follow the model (:meth:`Config.sized`).
PRESETS = {
    "tiny":    Config(beat_bits=16, row_lanes=1, lanes=1),
    "small":   Config(beat_bits=64, row_lanes=2, lanes=2),
    "wide":    Config(beat_bits=256, row_lanes=8, lanes=8, prefetch=64),
    "compact": Config(variant=ArrayVariant.TRIPLES, beat_bits=64, row_lanes=1, lanes=2),
    # With a model of a million weights in the block RAM of an ECP5-85. It goes on by itself, with the best candidate.
    "onchip":  Config(beat_bits=512, row_lanes=16, lanes=8, prefetch=16, top_k=1, embedding=FloatFormat(5, 2)),
    # For the smallest devices.
    "processor": Config(control=Control.PROGRAM, variant=ArrayVariant.TABLE, beat_bits=16, row_lanes=1, lanes=1,
                        prefetch=2, top_k=1, path=FloatFormat(6, 9), embedding=FloatFormat(4, 3)),
}
