"""The layout of a tape: which descriptors follow each other, and how long each is.

It depends on the sizes of a model only. The compiler fills in the numbers; the estimator needs none.
What is computed where, and why in this order, is said in :mod:`terngen.host.compile`.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

from terngen.host.convert.geometry import Geometry
from terngen.host.errors import ConfigError
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import Mark, Op, descriptor_beats

__all__ = ["PROJECTION_EPS", "Item", "Layout", "Piece", "cut", "head", "layer", "layout_of"]

#: Epsilon of the norm inside every projection, whatever the configuration says.
PROJECTION_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class Piece:
    """Layers of a model that follow each other, for a device of their own. With the first ones goes the embedding,
    with the last ones the head."""

    #: From zero.
    number: int
    #: In all.
    pieces: int
    layers: range

    @classmethod
    def whole(cls, geometry: Geometry) -> Self:
        """All of it."""
        return cls(0, 1, range(geometry.num_hidden_layers))

    @property
    def first(self) -> bool:
        return self.number == 0

    @property
    def last(self) -> bool:
        return self.number == self.pieces - 1

    def __str__(self) -> str:
        return f"{self.number + 1} of {self.pieces}"

    def machine(self, geometry: Geometry, config: Config) -> Config:
        """The machine for it, made of one for the whole model: with the state of its layers only, and with ways in
        and out for residual vectors."""
        if self.pieces == 1:
            return config
        changes: dict[str, Any] = {"state": len(self.layers) * geometry.state_size, "readable": not self.last}
        if not self.first:
            changes |= {"embedding": config.path, "wide": max(config.wide, 2 * config.hidden)}
        return dataclasses.replace(config, **changes)

    def ternary_weights(self, geometry: Geometry) -> int:
        """Trits in its matrices."""
        names = [f"model.layers.{index}." for index in self.layers] + ["lm_head."] * self.last
        return sum(math.prod(shape) for name, shape in geometry.matrices.items() if name.startswith(tuple(names)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A descriptor, and where its numbers come from."""

    op:      Op
    #: Fields of :class:`~terngen.hw.contract.tape.Descriptor`.
    length:  int
    beats:   int = 0
    place:   int = 0
    source:  int = 0
    first:   int = 0
    last:    int = 0
    release: int = 0

    #: Vectors whose product weighs the elements.
    norms:   tuple[str, ...] = ()
    #: What is added to the square of that product before it weighs them.
    added:   float = 0.0
    #: Layer whose lower bounds, taken from one, weigh them.
    bounds:  int | None = None
    #: The weight without either.
    weight:  float = 0.0
    #: What a sum of squares begins with.
    term:    float | None = None
    #: The ternary matrix that is multiplied, or whose sums are taken.
    matrix:  str = ""
    #: Its first row in this tile.
    row:     int = 0
    #: What the sums are multiplied by besides its scale.
    factor:  float = 0.0

    @property
    def weighted(self) -> bool:
        """Whether parameters follow."""
        return bool(self.norms) or self.bounds is not None

    @property
    def fields(self) -> dict[str, Any]:
        """The descriptor but for its numbers."""
        return {"opcode": self.op, "weighted": int(self.weighted), "source": self.source,
                "first": self.first, "last": self.last, "release": self.release,
                "length": self.length, "place": self.place, "beats": self.beats}


class _Items:
    """Makes items of a model for a machine."""

    def __init__(self, geometry: Geometry, config: Config) -> None:
        self._geometry = geometry
        self._config   = config

    def vector(self, op: Op, length: int, **fields: Any) -> Item:
        item = Item(op=op, length=length, **fields)
        if item.weighted:
            item = dataclasses.replace(item, beats=self._config.parameter_beats(length))
        return item

    def matrix(self, name: str, rows: int, cols: int, *, row: int = 0, release: bool = True) -> Item:
        """A row tile."""
        return Item(op=Op.MATVEC, length=rows, place=cols, matrix=name, row=row, release=int(release),
                    beats=self._config.matrix_beats(rows, cols))

    def squares(self, norm: str, length: int) -> Item:
        """The root of a block norm in front of a projection's norm."""
        return self.vector(Op.SQUARE, length, norms=(norm,), added=PROJECTION_EPS, first=1, last=1,
                           term=length * self._geometry.rms_norm_eps * PROJECTION_EPS)


def _entry(geometry: Geometry, index: int) -> tuple[str, ...]:
    """Weights of the scan that must come before a layer, or before the head."""
    if index == geometry.num_hidden_layers:
        return "model.norm", "lm_head.norm"
    layer = f"model.layers.{index}"
    return f"{layer}.attn_norm", f"{layer}.attn.f_proj.norm"


def layer(geometry: Geometry, config: Config, index: int, piece: Piece) -> Iterator[Item]:
    """One layer. Each matrix is preceded by what prepares the codes of the next one, so that the array
    does not wait where the model does not force it to."""
    place = piece.layers.index(index)
    items = _Items(geometry, config)
    name  = f"model.layers.{index}"
    hidden, state, inner = (geometry.hidden_size, geometry.state_size, geometry.intermediate_size)
    root  = math.sqrt(hidden) / 127

    # Token mixer.
    norm = f"{name}.attn_norm"
    f, g, i, o = (f"{name}.attn.{gate}_proj" for gate in "fgio")
    if place == 0:
        yield items.vector(Op.SCAN, hidden, norms=_entry(geometry, index))
    yield items.vector(Op.QUANTISE, hidden)
    yield items.vector(Op.SCAN, hidden, norms=(norm, f"{g}.norm"))
    yield items.vector(Op.QUANTISE, hidden)
    yield items.squares(norm, hidden)
    yield items.matrix(f, state, hidden)
    yield items.vector(Op.SCAN, hidden, norms=(norm, f"{i}.norm"))
    yield items.vector(Op.QUANTISE, hidden)
    # The first layer has lower bounds of zero.
    if geometry.use_lower_bound and index:
        yield items.vector(Op.GATE, state, matrix=f, factor=root, bounds=index)
    else:
        yield items.vector(Op.GATE, state, matrix=f, factor=root, weight=1.0)
    yield items.matrix(g, state, hidden)
    yield items.vector(Op.STORE, state, matrix=g, factor=root, weight=math.sqrt(PROJECTION_EPS), first=1)
    yield items.matrix(i, state, hidden)
    yield items.vector(Op.MLGRU, state, matrix=i, factor=root, place=place * config.groups(state),
                       norms=(f"{name}.attn.g_norm", f"{o}.norm"))
    yield items.vector(Op.QUANTISE, state)
    yield items.vector(Op.SQUARE, state, source=1, last=1, norms=(f"{name}.attn.g_norm",),
                       term=state * geometry.rms_norm_eps * PROJECTION_EPS)
    yield items.matrix(o, hidden, state)

    # Channel mixer.
    norm = f"{name}.mlp_norm"
    gate, down = f"{name}.mlp.gate_proj", f"{name}.mlp.down_proj"
    yield items.vector(Op.RESIDUAL, hidden, matrix=o, factor=math.sqrt(state) / 127,
                       norms=(norm, f"{gate}.norm"))
    yield items.vector(Op.QUANTISE, hidden)
    yield items.squares(norm, hidden)
    yield items.matrix(gate, inner, hidden, release=False)
    yield items.vector(Op.SILU, inner, matrix=gate, factor=root)
    yield items.matrix(gate, inner, hidden, row=inner)
    yield items.vector(Op.GLU, inner, matrix=gate, factor=root, norms=(f"{down}.norm",))
    yield items.vector(Op.QUANTISE, inner)
    yield items.vector(Op.SQUARE, inner, source=1, first=1, last=1, weight=1.0,
                       term=inner * PROJECTION_EPS)
    yield items.matrix(down, hidden, inner)
    # What another device goes on with is not weighted here.
    ends = place == len(piece.layers) - 1 and not piece.last
    yield items.vector(Op.RESIDUAL, hidden, matrix=down, factor=math.sqrt(inner) / 127,
                       **{"weight": 1.0} if ends else {"norms": _entry(geometry, index + 1)})


def head(geometry: Geometry, config: Config) -> Iterator[list[Item]]:
    """The head, one row tile after the other."""
    items  = _Items(geometry, config)
    hidden = geometry.hidden_size
    tile   = [items.vector(Op.QUANTISE, hidden), items.squares("model.norm", hidden)]
    for row in range(0, geometry.vocab_size, config.rows):
        rows = min(config.rows, geometry.vocab_size - row)
        tile += [
            items.matrix("lm_head", rows, hidden, row=row, release=row + rows == geometry.vocab_size),
            items.vector(Op.LOGITS, rows, matrix="lm_head", factor=math.sqrt(hidden) / 127,
                         first=int(row == 0)),
        ]
        yield tile
        tile = []


class Layout:
    """Where everything lies on the tape of a model.

    Parameters
    ----------
    geometry : :class:`Geometry`
        The model.
    config : :class:`Config`
        The machine, which it must fit.
    piece : :class:`Piece`
        What of the model is on the tape; by default all of it.
    """

    def __init__(self, geometry: Geometry, config: Config, piece: Piece | None = None) -> None:
        piece = piece or Piece.whole(geometry)
        #: Beats of an embedding row, and how many there are. They begin the tape.
        self.row_beats = config.embedding_beats(geometry.hidden_size)
        self.rows      = geometry.vocab_size if piece.first else config.slots
        #: Items of each mark that can be played by itself.
        self.items: dict[str, list[Item]] = {
            f"layer.{index}": list(layer(geometry, config, index, piece)) for index in piece.layers}
        layers = [item for part in self.items.values() for item in part]
        tiles  = {f"head.{index}": tile for index, tile in enumerate(head(geometry, config) if piece.last else ())}
        self.items |= {"layers": layers, **tiles, "head": [item for tile in tiles.values() for item in tile]}
        #: Where they are.
        self.marks: dict[str, Mark] = {}
        size  = descriptor_beats(config)
        place = self.rows * self.row_beats
        for name, items in self.items.items():
            count = sum(size + item.beats for item in items)
            if name in ("layers", "head"):              # all that came before, or the end of it
                self.marks[name] = Mark(place - count, count)
            else:
                self.marks[name] = Mark(place, count)
                place += count
        #: Beats of the whole tape.
        self.beats = place


def cut(geometry: Geometry, config: Config, split: int | Sequence[int]) -> list[Piece]:
    """Cut a model into pieces.

    Parameters
    ----------
    split
        How many pieces; then the longest takes as few beats of a token as can be. Or the layers of each.

    Raises
    ------
    ConfigError
        If there are not as many layers.
    """
    layers = geometry.num_hidden_layers
    if not isinstance(split, int):
        if sum(split) != layers or min(split) < 1:
            raise ConfigError(f"Pieces must have all {layers} layers of the model, and at least one each, not "
                              f"{', '.join(map(str, split))}")
        ends = list(itertools.accumulate(split))
    elif not 1 <= split <= layers:
        raise ConfigError(f"A model of {layers} layers can be cut into 1 to {layers} pieces, not {split}")
    else:
        layout = Layout(geometry, config)
        beats  = [layout.marks[f"layer.{index}"].count for index in range(layers)]
        beats[-1] += layout.marks["head"].count
        ends   = _even(beats, split)
    return [Piece(number, len(ends), range(start, end))
            for number, (start, end) in enumerate(itertools.pairwise([0, *ends]))]


def _even(sizes: Sequence[int], count: int) -> list[int]:
    """Where `count` runs of sizes end, so that the largest sum of one is as small as can be."""
    sums = [0, *itertools.accumulate(sizes)]
    # Of the first items: largest sum of the runs, and their ends.
    best: list[tuple[int, list[int]]] = [(total, [end]) for end, total in enumerate(sums)]
    for runs in range(2, count + 1):
        best = [min(((max(best[start][0], sums[end] - sums[start]), [*best[start][1], end])
                     for start in range(runs - 1, end)), default=best[end], key=lambda found: found[0])
                for end in range(len(sums))]
    return best[-1][1]


@functools.lru_cache(maxsize=4)
def layout_of(geometry: Geometry, config: Config, piece: Piece | None = None) -> Layout:
    """The same layout for those who ask one after the other."""
    return Layout(geometry, config, piece)
