"""The registers: what a host sees and sets, see :mod:`terngen.hw.contract.regs`."""

import functools
import operator

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.bus import BusSignature
from terngen.hw.contract import regs
from terngen.hw.contract.config import Config
from terngen.hw.contract.regs import Access, Reg, Status
from terngen.hw.stream import delay
from terngen.hw.units.draw import choice_layout
from terngen.hw.units.sums import READ_LATENCY
from terngen.hw.units.vector import LOOK_LATENCY, look_members

__all__ = ["Registers"]

#: Registers that a host writes and the machine reads; the last one only where it draws.
_SET = ("MASK", "RESET", "EMBED_START", "EMBED_BEATS", "PLAY_START", "PLAY_COUNT", "HIDDEN", "VOCAB",
        "STEPS", "STOP", "DRAW")


class Registers(wiring.Component):
    """Answers the accesses of a host.

    One access after the other: the next one is taken ``WRITE_CYCLES`` after a write, and when the answer
    to a read has been taken, which comes ``READ_CYCLES`` after it. Writes to the tape memory are handed
    on, and last until they have been taken; reading ``WAIT`` lasts until the machine is idle, reading the
    history until its step is complete or the machine is idle. Registers that do not exist are zero.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    bus : ``In(BusSignature())``
        Accesses, and answers to reads.
    tape : ``Out(stream.Signature(Access))``
        Writes to the tape memory.
    go : ``Out(1)``
        A run is to begin.
    check : ``Out(1)``; checking : ``In(1)``; crc : ``In(32)``
        A part of the tape is to be read back, is being read, its CRC-32; see :class:`~terngen.hw.tape.check.TapeCheck`.
    mask, reset, draw : ``Out(config.slots)``; embed_start, ..., stop : ``Out(32)``; tokens, states
        Contents of the registers of that name.
    choose : ``Out(1)``, choice : ``Out(choice_layout(config))``
        A word of what says how a slot draws, see :class:`~terngen.hw.units.draw.Draw`.
    busy, fault : ``In(1)``; done : ``In(32)``
        Status, and steps of the run that are complete.
    history_place, history_token
        Read port of the history, see :class:`~terngen.hw.control.decode.Decode`.
    stall_tape, stall_array, stall_vector, beat : ``In(1)``
        Events that are counted during a run.
    top_slot, top_place, top_row, top_sum, top_scale
        Results, see :class:`~terngen.hw.units.vector.Vector`.
    sums_slot, sums_group, sums
        Read port of the sums, with ``READ_LATENCY`` of :mod:`terngen.hw.units.sums`.
    look, seen
        Read port of the residual vectors, if they are readable; see :class:`~terngen.hw.units.vector.Vector`.
    """

    #: Cycles from a read to its answer: the address is registered, its parts are, those go to the sampler, and what is
    #: found is registered.
    READ_CYCLES = 4 + READ_LATENCY
    #: Cycles from a write to the next access.
    WRITE_CYCLES = 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "bus":          In(BusSignature()),
            "tape":         Out(stream.Signature(Access)),
            "go":           Out(1),
            "check":        Out(1),
            "checking":     In(1),
            "crc":          In(32),
            "mask":         Out(config.slots),
            "reset":        Out(config.slots),
            "embed_start":  Out(32),
            "embed_beats":  Out(32),
            "play_start":   Out(32),
            "play_count":   Out(32),
            "hidden":       Out(32),
            "vocab":        Out(32),
            "steps":        Out(32),
            "stop":         Out(32, init=regs.NO_TOKEN),
            "draw":         Out(config.slots),
            "choose":       Out(1),
            "choice":       Out(choice_layout(config)),
            "tokens":       Out(data.ArrayLayout(32, config.slots)),
            "states":       Out(data.ArrayLayout(config.slot_bits, config.slots), init=[*range(config.slots)]),
            "busy":         In(1),
            "fault":        In(1),
            "done":         In(32),
            "history_place": Out(range(config.history << config.slot_bits)),
            "history_token": In(regs.TOKEN_BITS),
            "beat":         In(1),
            "stall_tape":   In(1),
            "stall_array":  In(1),
            "stall_vector": In(1),
            "top_slot":     Out(config.slot_bits),
            "top_place":    Out(4),
            "top_row":      In(32),
            "top_sum":      In(signed(config.acc_width)),
            "top_scale":    In(config.path.width),
            "sums_slot":    Out(config.slot_bits),
            "sums_group":   Out(config.group_bits),
            "sums":         In(data.ArrayLayout(signed(config.acc_width), config.lanes)),
            **{name: member.flip() for name, member in look_members(config).items()},
        })

    def elaborate(self, platform):
        m = Module()
        config = self._config

        access  = Signal(Access)
        address = access.address
        status  = Signal(Status)
        m.d.comb += [
            status.busy.eq((self.busy | self.checking) & ~self.fault),
            status.fault.eq(self.fault),
        ]

        # Counters of a run.
        running  = Signal()
        counters = {}
        m.d.comb += running.eq(self.busy & ~self.fault)
        for name, event in (("CYCLES", 1), ("BEATS", self.beat), ("STALL_TAPE", self.stall_tape),
                            ("STALL_ARRAY", self.stall_array), ("STALL_VECTOR", self.stall_vector)):
            counters[name] = count = Signal(32, name=name.lower())
            counts = delay(m, running & event, reset=True, name=f"counts_{name.lower()}")
            with m.If(self.go):
                m.d.sync += count.eq(0)
            with m.Elif(counts):
                m.d.sync += count.eq(count + 1)

        written = {
            **{Reg[name].value: getattr(self, name.lower()) for name in (_SET if config.draws else _SET[:-1])},
            **{regs.token_address(slot): self.tokens[slot] for slot in range(config.slots)},
            **{regs.state_address(slot): self.states[slot] for slot in range(config.slots)},
        }
        digest  = config.digest
        words   = {
            Reg.MAGIC.value:   regs.MAGIC,
            Reg.VERSION.value: regs.VERSION,
            Reg.STATUS.value:  status.as_value(),
            Reg.WAIT.value:    status.as_value(),
            Reg.DONE.value:    self.done,
            Reg.CRC.value:     self.crc,
            **{Reg[name].value: value for name, value in counters.items()},
            **{Reg.DIGEST.value + offset: int.from_bytes(digest[offset:offset + 4], "little")
               for offset in range(0, len(digest), 4)},
            **written,
        }

        # To which of them an access is is known when it is there, because much hangs on it.
        accesses = self.bus.accesses
        chosen   = {number: delay(m, accesses.payload.address == number, en=accesses.ready, name=f"chosen_{number:x}")
                    for number in {**words, Reg.GO.value: 0, Reg.CHECK.value: 0}}
        choice_bits = 3 + config.slot_bits
        is_choice   = delay(m, accesses.payload.address[choice_bits:] == regs.CHOICE_BASE >> choice_bits,
                            en=accesses.ready, name="is_choice")

        # Results, history and sums are looked up with parts of the address.
        lane_bits   = config.lanes.bit_length() - 1
        result_bits = regs.RESULT_STRIDE.bit_length() - 1
        tape_bit    = regs.TAPE_BASE.bit_length() - 1
        sums_bit    = regs.SUMS_BASE.bit_length() - 1
        history_bit = regs.HISTORY_BASE.bit_length() - 1
        place       = Signal(result_bits - 2)
        is_sum      = Signal()
        is_vector   = Signal()
        is_history  = Signal()
        step        = address[2 + config.slot_bits:history_bit]
        lane        = address[2:2 + lane_bits]
        vector_bit  = (regs.VECTOR_BASE ^ regs.SUMS_BASE).bit_length() - 1
        m.d.comb += [
            is_sum.eq(address[sums_bit] & ~is_vector if config.readable else address[sums_bit]),
            is_history.eq(address[history_bit:] == 1),
            place.eq(address[2:result_bits]),
        ]
        m.d.sync += [
            self.history_place.eq(address[2:history_bit]),
            self.sums_group.eq(address[2 + lane_bits:]),
            self.sums_slot.eq(address[2 + lane_bits + config.group_bits:]),
        ]
        # No arithmetic, because logic optimisation takes the rest of the decoding from behind its carries.
        shows = Signal()
        m.d.sync += shows.eq(0)
        for slot in range(config.slots):
            with m.If(address[result_bits:] == regs.result_address(slot) >> result_bits):
                m.d.sync += self.top_slot.eq(slot)
                with m.Switch(place):
                    for number in range(regs.RESULT_TOP + 2 * config.top_k):
                        with m.Case(number):
                            m.d.sync += [shows.eq(1), self.top_place.eq(max(number - regs.RESULT_TOP, 0) >> 1)]

        # Sums come a cycle before the answer is given, and all else then as well, the registers another one before.
        recalls  = delay(m, is_history, name="recalls")
        made     = delay(m, (step - self.done)[-1], name="made")       # the step is complete
        past     = delay(m, self.history_token, name="past")
        # In time because reading the history takes two cycles more, for a comparison and to wait.
        none     = delay(m, past == (1 << regs.TOKEN_BITS) - 1, name="none")
        register = delay(m, functools.reduce(operator.or_, (Mux(chosen[number], value, 0)
                                                            for number, value in words.items())), name="register")
        scaled   = delay(m, place == regs.RESULT_SCALE, name="scaled")
        summed   = delay(m, place[0] ^ regs.RESULT_TOP & 1, name="summed")
        found    = Signal(32, reset_less=True)
        with m.If(recalls):
            m.d.sync += found.eq(Mux(made & ~none, past, regs.NO_TOKEN))
        with m.Elif(shows):
            m.d.sync += found.eq(Mux(scaled, self.top_scale, Mux(summed, self.top_sum, self.top_row)))
        with m.Else():
            m.d.sync += found.eq(register)
        if config.readable:
            assert LOOK_LATENCY == READ_LATENCY             # so a vector comes a cycle before it is given, too
            m.d.comb += is_vector.eq(address[vector_bit:] == regs.VECTOR_BASE >> vector_bit)
            m.d.sync += self.look.eq(address[2 + lane_bits:vector_bit])
            with m.If(is_vector):
                m.d.sync += found.eq(Array(self.seen)[lane] if lane_bits else self.seen[0])
        answer = Mux(is_sum, Array(self.sums)[lane] if lane_bits else self.sums[0], found)

        # What the write before has started is busy by the time that anything waits for it.
        is_busy = delay(m, status.busy, reset=True, name="is_busy")
        wait    = Signal(range(READ_LATENCY + 3))
        with m.If(self.go):
            m.d.sync += self.go.eq(0)
        with m.If(self.check):
            m.d.sync += self.check.eq(0)
        with m.FSM():
            with m.State("Access"):
                m.d.comb += self.bus.accesses.ready.eq(1)
                m.d.sync += access.eq(self.bus.accesses.payload)
                m.d.sync += wait.eq(READ_LATENCY + 2)
                with m.If(self.bus.accesses.valid):
                    with m.If(self.bus.accesses.payload.write):
                        m.next = "Write"
                    with m.Elif((self.bus.accesses.payload.address == Reg.WAIT.value)
                                | (self.bus.accesses.payload.address[history_bit:] == 1)):
                        m.next = "Compare"
                    with m.Else():
                        m.next = "Read"
            with m.State("Write"):
                with m.If(address[tape_bit]):
                    m.d.comb += self.tape.valid.eq(1)
                    with m.If(self.tape.ready):
                        m.next = "Access"
                with m.Else():
                    for number, target in written.items():
                        with m.If(chosen[number]):
                            m.d.sync += target.eq(access.data)
                    m.d.comb += self.choose.eq(is_choice)
                    with m.If(chosen[Reg.GO.value]):
                        m.d.sync += self.go.eq(~self.busy & ~self.checking)
                    with m.If(chosen[Reg.CHECK.value]):
                        m.d.sync += self.check.eq(~self.busy)
                    m.next = "Access"
            with m.State("Compare"):
                m.next = "Wait"
            with m.State("Wait"):
                with m.If(~is_busy | is_history & made):
                    m.next = "Read"
            with m.State("Read"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += self.bus.answers.payload.eq(answer)
                    m.next = "Answer"
            with m.State("Answer"):
                m.d.comb += self.bus.answers.valid.eq(1)
                with m.If(self.bus.answers.ready):
                    m.next = "Access"
        m.d.comb += [
            self.tape.payload.eq(access),
            self.choice.eq(Cat(address[2:choice_bits], access.data)),
        ]

        # A state is taken as zero for one run only.
        with m.If(delay(m, self.busy, reset=True, name="was_busy") & ~self.busy):
            m.d.sync += self.reset.eq(0)
        return m
