"""The vector unit: everything that is done element by element."""

import dataclasses
import functools
import gc
import operator
import warnings
from collections.abc import Mapping
from typing import Self

from amaranth import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.hdl import UnusedElaboratable
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from terngen.hw.contract import trace
from terngen.hw.contract.config import Config
from terngen.hw.contract.tape import DRAINS, SCANS, Descriptor, Op
from terngen.hw.stream import delay
from terngen.hw.units import parameters, sums
from terngen.hw.units.activations import CodesSignature
from terngen.hw.units.add import Add
from terngen.hw.units.convert import FromInt, ToInt8
from terngen.hw.units.multiply import Multiply
from terngen.hw.units.parameters import ParametersSignature
from terngen.hw.units.reciprocal import Reciprocal
from terngen.hw.units.recurrence import Recurrence
from terngen.hw.units.sampler import Sampler, list_latency
from terngen.hw.units.sampler import cycles as sampler_cycles
from terngen.hw.units.sigmoid import Sigmoid
from terngen.hw.units.site import SiteMultiply
from terngen.hw.units.squaresum import SquareSum
from terngen.hw.units.sums import SumsSignature

__all__ = ["LOOK_LATENCY", "Timing", "Vector", "command_layout", "look_members"]

#: Operations that may have a parameter vector.
_WEIGHTED = (*SCANS, Op.EMBED, Op.SQUARE, Op.GATE, Op.STORE)
#: Cycles from a buffer's address to its data: the memory's own register, and one more, because the memory may be far.
_READ = 3
#: Cycles from :attr:`Vector.look` to what is seen: the address is registered, but not once more what the memory gives.
LOOK_LATENCY = _READ


def command_layout(config: Config) -> data.StructLayout:
    """A descriptor, and the slot of an embedding row, which is a parameter vector as well."""
    return data.StructLayout({"descriptor": Descriptor, "slot": config.slot_bits})


def look_members(config: Config) -> dict[str, wiring.Member]:
    """Ports of a vector unit for someone who looks at residual vectors; none if they are not readable."""
    if not config.readable:
        return {}
    return {"look": In(range(config.slots * config.groups(config.hidden))),
            "seen": Out(data.ArrayLayout(config.path.width, config.lanes))}


def _any(op, ops):
    """Whether `op` is one of `ops`."""
    return Cat(op == other for other in sorted(ops, key=lambda each: each.value)).any()


class _Lane:
    """The arithmetic of one lane."""

    def __init__(self, config: Config):
        fmt, sites = config.path, config.sites
        self.from_int   = FromInt(fmt=fmt, width=config.acc_width)
        self.dequantise = Multiply(fmt=fmt, multiplier=sites.dequantise)
        self.sigmoid    = Sigmoid(fmt=fmt)
        self.silu       = Multiply(fmt=fmt, multiplier=sites.silu)
        self.sigmoid_h  = Sigmoid(fmt=fmt, partner=self.sigmoid)
        self.silu_h     = Multiply(fmt=fmt, multiplier=sites.silu)
        self.output     = Multiply(fmt=fmt, multiplier=sites.output)
        self.glu        = Multiply(fmt=fmt, multiplier=sites.glu)
        self.residual   = Add(fmt=fmt)
        self.tail       = SiteMultiply(fmt=fmt, multipliers=[sites.norm, sites.gate, sites.quantise])
        self.to_int8    = ToInt8(fmt=fmt)
        self.square     = Multiply(fmt=fmt.wide, multiplier=sites.square)


@dataclasses.dataclass(frozen=True)
class Timing:
    """What the operations of a vector unit take.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.
    result : mapping
        Cycles from the issue of a group to its result, by operation.
    leave, scale, factor, root : :class:`int`
        Cycles from a result to the end of the pipeline; to scale the sums, to invert a peak and to take
        a root.
    """

    config: Config
    result: Mapping[Op, int]
    leave:  int
    scale:  int
    factor: int
    root:   int

    @classmethod
    def of(cls, config: Config) -> Self:
        """That of the machine, without making hardware of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnusedElaboratable)
            timing = Vector(config).timing
            gc.collect()        # components refer to each other, and warn when they go
        return timing

    def cycles(self, op: Op, length: int, *, active: int, last: bool = False) -> int:
        """Cycles of an operation when nothing keeps it waiting, whatever its numbers.

        Parameters
        ----------
        length : :class:`int`
            Elements of a vector.
        active : :class:`int`
            Slots that take part.
        last : :class:`bool`
            The root of the sum of squares is taken.
        """
        groups = self.config.groups(length)
        pace   = sampler_cycles(self.config) if op is Op.LOGITS else 1
        stream = (groups - 1) * pace + 1
        leave  = self.result[op] + self.leave
        if op is Op.LOGITS:                             # the last group still has to be sampled
            leave = max(leave, self.result[op] + pace - 1 + list_latency(self.config))
        each   = 2 + stream + leave + 1 + 1             # begin and end, drain, scalars
        if op in DRAINS:
            each += 2 * (self.scale + 1)
        if op in SCANS:
            each += 1 + self.factor
        if op is Op.SQUARE and last:
            each += 1 + self.root
        return 2 + active * each + (self.config.slots - active) * 2


class Vector(wiring.Component):
    """Executes the operations of :class:`~terngen.hw.contract.tape.Op`, one after the other.

    What each computes is written in :mod:`terngen.sim.golden.machine`. An operation is a pass over
    its vector for each slot that takes part. In a pass one lane group enters the pipeline each
    cycle, nothing stalls, and the next pass begins when the pipeline is empty::

        sums -> float -> * s = v --+--> sigmoid(-v) --------------------------------- GATE --.
                                   +------------------------------------------------ STORE --+
                                   +--> silu --+------------------------------------- SILU --+
                                   |           '-> state core -> silu -> * T1 ------ MLGRU --+--> r
                                   +--> * T0 ----------------------------------------- GLU --+
                                   +--> + X -------------------------------------- RESIDUAL --+
        X, T1, Y ------------------------------------------- SCAN, SQUARE, QUANTISE ---------'

        r * w = y --> Y and peak, squares, or int8 codes

    Throughput is one lane group per cycle, except that a sampler of several candidates takes one lane in a cycle.
    Pipeline and scalars of each pass add their latency; :meth:`cycles` is the sum.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    command : ``In(stream.Signature(command_layout(config)))``
        Operations, in order. One is taken when it is finished.
    mask, clear : ``In(config.slots)``
        Slots that take part; slots whose state counts as zero. Must not change during a step.
    states : ``In(data.ArrayLayout(config.slot_bits, config.slots))``
        State that each slot works on. Slots with the same one are updated in their order. Must not change
        during a step.
    vocab : ``In(32)``
        Rows of the head that are tokens.
    weights : ``Out(ParametersSignature(config))``
        Parameter vectors.
    sums : ``Out(SumsSignature(config))``
        Where sums come from.
    codes : ``Out(CodesSignature(config))``
        Where codes go.
    top_slot, top_place, top_row, top_sum, top_scale
        Results: candidates as in :class:`Sampler`, and the scale of the logits of the slot, a cycle later.
    look
        Lane group of the residual vectors of all slots, one behind the other, to be seen.
    seen
        That group, ``LOOK_LATENCY`` cycles later while nothing is being executed. Both only of a machine whose vectors
        are `readable`.
    trace : ``Out(...)``
        See :mod:`terngen.hw.contract.trace`.
    idle : ``Out(1)``
        Nothing is being executed.
    """

    def __init__(self, config: Config):
        self._config = config
        fmt = config.path
        self._lanes      = [_Lane(config) for _ in range(config.lanes)]
        self._recurrence = Recurrence(config)
        lane = self._lanes[0]

        # Cycles from the issue of a group to each point of the pipeline.
        self._v     = sums.READ_LATENCY + lane.from_int.LATENCY + lane.dequantise.LATENCY
        self._sigma = self._v + Sigmoid.LATENCY
        self._silu  = self._sigma + lane.silu.LATENCY
        self._state = self._silu + self._recurrence.LATENCY - self._recurrence.C_DELAY
        self._gated = self._state + Sigmoid.LATENCY + lane.silu_h.LATENCY
        buffered    = max(_READ, parameters.READ_LATENCY)
        #: Cycles from the issue of a group to its result ``r``, by operation.
        self._result = {
            Op.EMBED:    buffered,
            Op.SCAN:     buffered,
            Op.QUANTISE: buffered,
            Op.SQUARE:   buffered,
            Op.GATE:     self._sigma,
            Op.STORE:    self._v,
            Op.SILU:     self._silu,
            Op.MLGRU:    self._gated + lane.output.LATENCY,
            Op.GLU:      self._v + lane.glu.LATENCY,
            Op.RESIDUAL: self._v + Add.LATENCY,
            Op.LOGITS:   sums.READ_LATENCY,
        }
        # From a group's result to the other points.
        self._y      = lane.tail.LATENCY
        self._codes  = self._y + lane.to_int8.LATENCY
        self._square = self._y + lane.square.LATENCY
        self._peak   = self._y + ceil_log2(config.lanes) + 1
        self._leave  = max(self._codes, self._square, self._peak) + 1
        self._scale      = Multiply(fmt=fmt, multiplier=config.sites.dequantise)
        self._reciprocal = Reciprocal(fmt=fmt)
        self._squares    = SquareSum(fmt=fmt, lanes=config.lanes, slots=config.slots)
        #: What the operations take.
        self.timing = Timing(config, self._result, self._leave, self._scale.LATENCY,
                             self._reciprocal.LATENCY, self._squares.LATENCY)
        super().__init__({
            "command":       In(stream.Signature(command_layout(config))),
            "mask":          In(config.slots),
            "clear":         In(config.slots),
            "states":        In(data.ArrayLayout(config.slot_bits, config.slots)),
            "vocab":         In(32),

            "weights":       Out(ParametersSignature(config)),
            "sums":          Out(SumsSignature(config)),
            "codes":         Out(CodesSignature(config)),

            "top_slot":      In(config.slot_bits),
            "top_place":     In(4),
            "top_row":       Out(32),
            "top_sum":       Out(signed(config.acc_width)),
            "top_scale":     Out(fmt.width),
            **look_members(config),

            "trace":         Out(wiring.Signature({
                "valid": Out(1),
                "event": Out(trace.event_layout(config)),
            })),
            "idle":          Out(1),
        })

    def cycles(self, op: Op, length: int, *, active: int, last: bool = False) -> int:
        """See :meth:`Timing.cycles`."""
        return self.timing.cycles(op, length, active=active, last=last)

    def elaborate(self, platform):
        m = Module()
        config, fmt = self._config, self._config.path
        lanes, width, slots = config.lanes, fmt.width, config.slots

        descriptor = self.command.payload.descriptor
        op         = descriptor.opcode
        groups     = Signal(config.group_bits + 1)
        last_group = Signal(config.group_bits + 1)
        below      = Signal(config.group_bits + 1)                  # the group before the last one
        drains     = Signal()
        weighted   = Signal()
        # A descriptor comes two cycles before its first group enters, and stays until its last one has left.
        m.d.sync += [
            groups.eq((descriptor.length + lanes - 1) >> (lanes.bit_length() - 1)),
            last_group.eq(groups - 1),
            below.eq(groups - 2),
        ]
        m.d.comb += [
            drains.eq(_any(op, DRAINS)),
            weighted.eq(descriptor.weighted),
        ]

        flags     = {}

        def flag(*ops):
            """The operation is one of these. From a register, for as long as a group is in the pipeline."""
            key = frozenset(ops)
            if key not in flags:
                flags[key] = delay(m, _any(op, ops), name="is_" + "_".join(sorted(each.name.lower() for each in key)))
            return flags[key]

        for ops in (DRAINS, SCANS, (Op.LOGITS,), (Op.SQUARE,), (Op.QUANTISE,)):
            flag(*ops)                                  # made here, used by the states below

        # Scalars of each slot.
        def per_slot(name):
            return Array(Signal(width, name=f"{name}_{slot}") for slot in range(slots))

        peak   = per_slot("peak")
        factor = per_slot("factor")
        root   = per_slot("root")
        scales = per_slot("scales")
        for slot in range(slots):
            m.d.comb += self.codes.tags[slot].eq(peak[slot])

        # Control. One pass for each slot.
        slot      = Signal(config.slot_bits)
        active    = Signal()
        start     = Signal()                                        # a pass begins
        issue     = Signal()                                        # a group enters
        issued    = Signal(config.group_bits + 1)
        at_last   = Signal()                                        # the next group to enter is the last one
        finished  = Signal(config.group_bits + 1)
        finish    = Signal()                                        # a group has left
        all_left  = Signal()                                        # the last one has
        scale     = Signal(width)
        highest   = Signal(width - 1)                               # peak of this pass so far
        pace      = Signal(range(lanes))
        hidden_base = Signal(range(slots * config.groups(config.hidden)))
        wide_base   = Signal(range(slots * config.groups(config.wide)))
        state_base  = Signal(range(slots * config.groups(config.state)))
        state_bases = Array(C(index * config.groups(config.state), state_base.shape()) for index in range(slots))
        row         = Signal(32)
        scalars     = Signal()                                      # scalars of a pass are final
        m.d.comb += active.eq(Mux(op == Op.EMBED, self.command.payload.slot == slot,
                                  self.mask.bit_select(slot, 1)))

        with m.If(start):
            m.d.sync += [finished.eq(0), all_left.eq(0)]
        with m.Elif(finish):
            m.d.sync += [finished.eq(finished + 1), all_left.eq(finished == last_group)]

        m.submodules.scale = scale_mul = self._scale
        scale_wait = Signal(range(scale_mul.LATENCY + 1))
        # Never zeros meanwhile: a register that is cleared does not become one of a DSP block.
        m.d.comb += [scale_mul.a.eq(descriptor.scale), scale_mul.b.eq(self.sums.tags[slot])]

        m.submodules.reciprocal = reciprocal = self._reciprocal
        m.submodules.squares = squares = self._squares
        m.submodules.sampler = sampler = Sampler(config)
        m.d.comb += [
            sampler.vocab.eq(self.vocab),
            sampler.slot.eq(self.top_slot),
            sampler.place.eq(self.top_place),
            self.top_scale.eq(delay(m, scales[self.top_slot], name="shown_scale")),
            self.top_row.eq(sampler.row),
            self.top_sum.eq(sampler.sum),
            self.sums.slot.eq(slot),
            self.codes.slot.eq(slot),
        ]
        cleared = Signal()      # the lists are emptied before the first pass, two cycles later: that is soon enough
        clears  = delay(m, cleared, reset=True, name="clears")
        m.d.comb += sampler.clear.eq(Mux(clears, self.mask, 0))
        with m.If(clears):
            m.d.sync += row.eq(0)
        term = Signal()     # the last term of a sum of squares is offered
        pops = delay(m, weighted, name="pops")
        with m.FSM() as fsm:
            with m.State("Idle"):
                m.d.comb += self.idle.eq(~self.command.valid)
                m.d.sync += [
                    slot.eq(0),
                    hidden_base.eq(0),
                    wide_base.eq(0),
                    state_base.eq(state_bases[self.states[0]]),
                ]
                with m.If(self.command.valid
                          & (self.sums.ready | ~drains)
                          & (self.weights.ready | ~weighted)
                          & (self.codes.free | (op != Op.QUANTISE))):
                    m.next = "Slot"
            with m.State("Slot"):
                m.d.comb += start.eq(1)
                m.d.comb += cleared.eq((slot == 0) & flag(Op.LOGITS) & descriptor.first)
                m.d.sync += issued.eq(0)
                m.d.sync += at_last.eq(groups == 1)
                m.d.sync += pace.eq(0)
                m.d.sync += scale_wait.eq(scale_mul.LATENCY)
                with m.If(~active):
                    m.next = "Next slot"
                with m.Elif(flag(*DRAINS)):
                    m.next = "Scale by peak"
                with m.Else():
                    m.next = "Stream"
            with m.State("Scale by peak"):
                m.d.sync += scale_wait.eq(scale_wait - 1)
                with m.If(scale_wait == 0):
                    m.d.sync += scale.eq(scale_mul.o)
                    m.d.sync += scale_wait.eq(scale_mul.LATENCY)
                    m.next = "Scale by root"
            with m.State("Scale by root"):
                m.d.comb += scale_mul.a.eq(scale)
                m.d.comb += scale_mul.b.eq(root[slot])
                m.d.sync += scale_wait.eq(scale_wait - 1)
                with m.If(scale_wait == 0):
                    m.d.sync += scale.eq(scale_mul.o)
                    m.next = "Stream"
            with m.State("Stream"):
                m.d.comb += issue.eq(pace == 0)
                # The sampler may take one lane in a cycle.
                with m.If(flag(Op.LOGITS)):
                    m.d.sync += pace.eq(Mux(pace == sampler_cycles(config) - 1, 0, pace + 1))
                with m.If(issue):
                    m.d.sync += issued.eq(issued + 1)
                    m.d.sync += at_last.eq(issued == below)
                    with m.If(at_last):
                        m.next = "Drain"
            with m.State("Drain"):
                with m.If(all_left & sampler.idle):
                    with m.If(flag(*SCANS)):
                        m.next = "Invert peak"
                    with m.Elif(flag(Op.SQUARE) & descriptor.last):
                        m.next = "Add term"
                    with m.Else():
                        m.next = "Scalars"
            with m.State("Invert peak"):
                m.d.comb += reciprocal.i.payload.eq(highest)
                m.d.comb += reciprocal.i.valid.eq(1)
                m.d.sync += peak[slot].eq(highest)
                with m.If(reciprocal.i.ready):
                    m.next = "Await factor"
            with m.State("Await factor"):
                m.d.comb += reciprocal.o.ready.eq(1)
                with m.If(reciprocal.o.valid):
                    m.d.sync += factor[slot].eq(reciprocal.o.payload)
                    m.next = "Scalars"
            with m.State("Add term"):
                m.d.comb += term.eq(1)
                with m.If(squares.i.ready):
                    m.next = "Await root"
            with m.State("Await root"):
                m.d.comb += squares.o.ready.eq(1)
                with m.If(squares.o.valid):
                    m.d.sync += root[slot].eq(squares.o.payload)
                    m.next = "Scalars"
            with m.State("Scalars"):
                m.d.comb += scalars.eq(1)
                with m.If(flag(Op.LOGITS)):
                    m.d.sync += scales[slot].eq(scale)
                m.next = "Next slot"
            with m.State("Next slot"):
                m.d.sync += [
                    slot.eq(slot + 1),
                    hidden_base.eq(hidden_base + config.groups(config.hidden)),
                    wide_base.eq(wide_base + config.groups(config.wide)),
                    state_base.eq(state_bases[self.states[(slot + 1)[:config.slot_bits]]]),
                ]
                with m.If(slot == slots - 1):
                    m.next = "Done"
                with m.Else():
                    m.next = "Slot"
            with m.State("Done"):
                m.d.comb += [
                    self.command.ready.eq(1),
                    self.sums.pop.eq(flag(*DRAINS)),
                    self.weights.pop.eq(pops),
                    self.codes.push.eq(flag(Op.QUANTISE)),
                ]
                with m.If(flag(Op.LOGITS)):
                    m.d.sync += row.eq(row + descriptor.length)
                m.next = "Idle"

        # Points of the pipeline: bit k of `alive` is a group that entered k + 1 cycles ago.
        y_after, codes_after, square_after, end_after = self._y, self._codes, self._square, self._leave
        depth     = max(self._result.values()) + end_after
        # What has left is forgotten, before the next pass begins, and so is everything after a reset.
        left      = Signal(init=1)
        alive     = Signal(depth, reset_less=True)
        m.d.sync += [left.eq(scalars), alive.eq(Mux(left, 0, Cat(issue, alive)))]
        entered   = Cat(issue, alive)                               # bit k: k cycles ago

        def at(cycles, *ops):
            """A group of one of these operations is at this point."""
            if cycles == 0:
                return issue & flag(*ops)
            return delay(m, entered[cycles - 1] & flag(*ops), reset=True, name="at")

        def result(after=0, ops=tuple(self._result)):
            """A group is this many cycles after its result."""
            times = {}
            for each in sorted(ops, key=lambda each: each.value):
                times.setdefault(self._result[each] + after, []).append(each)
            now    = issue & flag(*times.pop(0)) if 0 in times else 0
            before = [entered[cycles - 1] & flag(*each) for cycles, each in times.items()]
            return delay(m, Cat(before).any(), reset=True, name="at") | now

        # The first group may enter a cycle after the start, and is at no other point then.
        started = delay(m, start, reset=True, name="started")

        def counter(valid, name, base=None, *, begin=started):
            """Number of the group, or its address, at a point."""
            shape = config.group_bits if base is None else base.shape()
            count = Signal(shape, name=name)
            with m.If(begin):
                m.d.sync += count.eq(0 if base is None else base)
            with m.Elif(valid):
                m.d.sync += count.eq(count + 1)
            return count

        # Buffers: each has one place in the pipeline where it is read, and one where it is written.
        def buffer(name, base, depth, read_valid, write_valid, write_data, look=None):
            # A pass reads a group before it writes it.
            m.submodules[name] = words = memory.Memory(shape=lanes * width, depth=depth, init=[],
                                                       attrs={"no_rw_check": 1})
            read, write = words.read_port(), words.write_port()
            place = counter(read_valid, f"{name}_read", base)
            if look is not None:
                with m.If(fsm.ongoing("Idle")):                     # between passes anybody may look
                    m.d.sync += place.eq(look)
            m.d.comb += [
                read.addr.eq(place),
                write.addr.eq(delay(m, counter(write_valid, f"{name}_write", base), name=f"{name}_to")),
                write.data.eq(delay(m, write_data, name=f"{name}_data")),
                write.en.eq(delay(m, write_valid, reset=True, name=f"{name}_en")),
            ]
            early = delay(m, read.data, name=f"{name}_early")
            if look is not None:
                m.d.comb += self.seen.as_value().eq(early)
            word = delay(m, early, _READ - 2, name=f"{name}_word")
            return [word[lane * width:(lane + 1) * width] for lane in range(lanes)]

        r        = [Signal(width, name=f"r_{lane}") for lane in range(lanes)]
        y        = [Signal(width, name=f"y_{lane}") for lane in range(lanes)]
        buffered = self._result[Op.SCAN] - _READ

        x_read  = Signal()
        x_write = Signal()
        m.d.comb += x_read.eq(at(self._v - _READ, Op.RESIDUAL) | at(buffered, Op.SCAN, Op.SQUARE))
        m.d.comb += x_write.eq(result(0, (Op.RESIDUAL, Op.EMBED)))
        x = buffer("x", hidden_base, slots * config.groups(config.hidden), x_read, x_write,
                   Mux(flag(Op.EMBED), self.weights.codes.as_value(), Cat(r)), self.look if config.readable else None)

        t0_read  = Signal()
        t0_write = Signal()
        product  = self._silu + Add.LATENCY                         # z meets c - h
        m.d.comb += t0_read.eq(at(product - _READ, Op.MLGRU) | at(self._v - _READ, Op.GLU))
        m.d.comb += t0_write.eq(result(0, (Op.SILU,)) | result(y_after, (Op.GATE,)))
        t0 = buffer("t0", wide_base, slots * config.groups(config.wide), t0_read, t0_write,
                    Mux(flag(Op.GATE), Cat(y), Cat(r)))

        t1_read  = Signal()
        t1_write = Signal()
        m.d.comb += t1_read.eq(at(self._gated - _READ, Op.MLGRU) | at(buffered, Op.SQUARE))
        m.d.comb += t1_write.eq(result(0, (Op.STORE, Op.MLGRU, Op.GLU)))
        t1 = buffer("t1", wide_base, slots * config.groups(config.wide), t1_read, t1_write, Cat(r))

        y_read  = Signal()
        y_write = Signal()
        m.d.comb += y_read.eq(at(buffered, Op.QUANTISE))
        m.d.comb += y_write.eq(result(y_after, tuple(SCANS)))
        y_kept = buffer("y", wide_base, slots * config.groups(config.wide), y_read, y_write, Cat(y))

        w_read = Signal()
        m.d.comb += w_read.eq(result(-parameters.READ_LATENCY, _WEIGHTED))
        m.d.comb += self.weights.group.eq(counter(w_read, "w_read", begin=start))
        m.d.comb += self.weights.row.eq(flag(Op.EMBED))

        # State core.
        m.submodules.recurrence = recurrence = self._recurrence
        m.d.comb += [
            recurrence.start.eq(started),
            recurrence.base.eq(state_base + descriptor.place),
            recurrence.clear.eq(delay(m, self.clear.bit_select(slot, 1), name="clear")),
            recurrence.read.eq(at(self._silu - recurrence.C_DELAY, Op.MLGRU)),
        ]

        # Lanes.
        m.d.comb += self.sums.group.eq(counter(issue, "sums_read", begin=start))
        squares_t1 = delay(m, (op == Op.SQUARE) & descriptor.source, name="squares_t1")
        squares_x  = delay(m, (op == Op.SCAN) | ((op == Op.SQUARE) & ~descriptor.source), name="squares_x")
        # What all lanes multiply by, if it is no weight; or else zero, so that bits that no weight has are not cleared.
        shared   = delay(m, Mux(op == Op.QUANTISE, factor[slot], Mux(descriptor.weighted, 0, descriptor.weight)),
                         name="shared")
        by_code  = delay(m, (op != Op.QUANTISE) & descriptor.weighted, name="by_code")
        for lane in range(lanes):
            units = self._lanes[lane]
            for name, unit in vars(units).items():
                m.submodules[f"{name}_{lane}"] = unit
            v = units.dequantise.o
            m.d.comb += [
                units.from_int.a.eq(self.sums.sums[lane]),
                units.dequantise.a.eq(units.from_int.o),
                units.dequantise.b.eq(scale),
                units.sigmoid.a.eq(Cat(v[:-1], v[-1] ^ flag(Op.GATE))),
                units.silu.a.eq(delay(m, v, Sigmoid.LATENCY, name="v")),
                units.silu.b.eq(units.sigmoid.o),

                recurrence.c[lane].eq(units.silu.o),
                recurrence.z[lane].eq(t0[lane]),
                units.sigmoid_h.a.eq(recurrence.h[lane]),
                units.silu_h.a.eq(delay(m, recurrence.h[lane], Sigmoid.LATENCY, name="h")),
                units.silu_h.b.eq(units.sigmoid_h.o),
                units.output.a.eq(t1[lane]),
                units.output.b.eq(units.silu_h.o),

                units.glu.a.eq(t0[lane]),
                units.glu.b.eq(v),
                units.residual.a.eq(x[lane]),
                units.residual.b.eq(v),
            ]
            # One source is not zero.
            sources    = [
                (flag(Op.GATE),                                       units.sigmoid.o),
                (flag(Op.STORE),                                      v),
                (flag(Op.SILU),                                       units.silu.o),
                (flag(Op.MLGRU),                                      units.output.o),
                (flag(Op.GLU),                                        units.glu.o),
                (flag(Op.RESIDUAL),                                   units.residual.o),
                (flag(Op.QUANTISE),                                   y_kept[lane]),
                (flag(Op.EMBED),                                      self.weights.codes[lane]),
                (squares_t1,                                          t1[lane]),
                (squares_x,                                           x[lane]),
            ]
            m.d.comb += r[lane].eq(functools.reduce(operator.or_, (word & chosen.replicate(width)
                                                                   for chosen, word in sources)))

            # The tail: weighted, and reduced or quantised. With an exponent of zero the mantissa does not count.
            exponent_top = y[lane][-2]
            exponent     = y[lane][fmt.mantissa_bits:-1]
            widened      = Cat(y[lane][:fmt.mantissa_bits],
                               Mux(exponent.any(), Cat(exponent[:-1], ~exponent_top, exponent_top), 0), C(0, 1))
            m.d.comb += [
                units.tail.product.eq(Mux(flag(Op.QUANTISE), 2, flag(Op.GATE))),
                units.tail.a.eq(r[lane]),
                units.tail.b.eq(self.weights.codes[lane] & by_code.replicate(width) | shared),
                y[lane].eq(units.tail.o),
                units.to_int8.a.eq(y[lane]),
                self.codes.codes[lane].eq(units.to_int8.o),
                units.square.a.eq(widened),
                units.square.b.eq(widened),
                squares.i.payload.terms[lane].eq(
                    Mux(term, descriptor.scale if lane == 0 else 0, units.square.o)),
            ]

        # Peak.
        peaks = [lane_y[:-1] for lane_y in y]
        while len(peaks) > 1:
            peaks = [delay(m, Mux((a - b)[-1], b, a), name="peak") for a, b in zip(peaks[::2], peaks[1::2])]
        # As the sign of a difference: a carry that leaves its chain by itself costs a nanosecond.
        with m.If(result(self._peak - 1, tuple(SCANS)) & (highest - peaks[0])[-1]):
            m.d.sync += highest.eq(peaks[0])
        with m.If(started):
            m.d.sync += highest.eq(0)

        # Squares.
        squared = Signal()
        m.d.comb += squared.eq(result(square_after, (Op.SQUARE, Op.STORE)))
        first_square = Signal()
        with m.If(started):
            m.d.sync += first_square.eq(descriptor.first)
        with m.Elif(squared):
            m.d.sync += first_square.eq(0)
        m.d.comb += [
            squares.i.valid.eq(squared | term),
            squares.i.payload.first.eq(first_square & ~term),
            squares.i.payload.last.eq(term),
            squares.i.payload.slot.eq(slot),
        ]

        # Codes.
        m.d.comb += self.codes.valid.eq(result(codes_after, (Op.QUANTISE,)))
        m.d.comb += self.codes.group.eq(counter(self.codes.valid, "codes_write"))

        # Logits.
        offered = at(self._result[Op.LOGITS], Op.LOGITS)
        lane_bits     = lanes.bit_length() - 1
        # The row begins at zero two cycles after the start of the first pass.
        offered_group = counter(offered, "offered", row[lane_bits:],
                                begin=delay(m, started, reset=True, name="rows_start"))
        m.d.comb += [
            sampler.i.valid.eq(offered),
            sampler.i.payload.slot.eq(slot),
            sampler.i.payload.row.eq(Cat(C(0, lane_bits), offered_group)),
            sampler.i.payload.sums.eq(self.sums.sums),
        ]

        m.d.comb += finish.eq(result(end_after))
        self._trace(m, op, slot, scalars, start, finish, counter, {
            "acc":      (entered[sums.READ_LATENCY] & drains, self.sums.sums.as_value()),
            "value":    (result(0), Cat(r)),
            "state":    (at(self._state, Op.MLGRU), recurrence.h.as_value()),
            "weighted": (result(y_after), Cat(y)),
            "code":     (self.codes.valid, self.codes.codes.as_value()),
        }, {"scale": scale, "peak": peak[slot], "factor": factor[slot], "root": root[slot]})
        return m

    def _trace(self, m, op, slot, scalars, start, finish, counter, elements, values):
        """Keeps what each point of the pipeline shows until the group has left it."""
        config = self._config
        event  = self.trace.event
        fields = {}
        group  = counter(finish, "trace_group")
        for name, (valid, word) in elements.items():
            kept = memory.Memory(shape=len(word), depth=1 << config.group_bits, init=[])
            m.submodules[f"trace_{name}"] = kept
            write, read = kept.write_port(), kept.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(counter(valid, f"trace_{name}_group")),
                write.data.eq(word),
                write.en.eq(valid),
                read.addr.eq(group),
            ]
            fields[name] = read.data
        m.d.comb += [
            self.trace.valid.eq(finish | scalars),
            event.op.eq(op),
            event.slot.eq(slot),
            event.group.eq(group),
            event.scalars.eq(scalars),
            *(event[name].as_value().eq(word) for name, word in fields.items()),
            *(event[name].eq(value) for name, value in values.items()),
        ]
