"""A token drawn from the best candidates, by its probability."""

from amaranth import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from terngen.hw.contract import drawing
from terngen.hw.contract.config import Config
from terngen.hw.contract.drawing import COLDNESS, DISTANCE_BITS, FRESH_BITS, NOISE_WIDTH, SCORE_BITS, SLOPE_WIDTH
from terngen.hw.contract.regs import Choice
from terngen.hw.stream import delay
from terngen.hw.vendor.adder import add_kept

__all__ = ["Draw", "choice_layout", "latency"]

#: Steps that shift whatever the slope may be out of sight.
_SLOPE_STEPS = SLOPE_WIDTH + COLDNESS.mantissa_bits + 3


def latency(candidates: int) -> int:
    """Cycles from `go` to `done`, for a number of candidates."""
    return _SLOPE_STEPS + 2 + max(1, candidates) * (DISTANCE_BITS + 4)


def choice_layout(config: Config) -> data.StructLayout:
    """A word of those that say how a slot draws: the first or the second one, of which slot."""
    return data.StructLayout({"second": 1, "slot": config.slot_bits, "word": 32})


class Draw(wiring.Component):
    """Draws one of the candidates of a slot.

    Computes :func:`~terngen.hw.contract.drawing.draw` exactly, with one adder and no multiplier. First the slope, which
    is the scale of the logits times the coldness, then for each candidate the slope times its distance from the best::

        slope, 0 --> + --> sum --> score = noise - sum --> best score, its place
                     ^      |
                     '- /2 -'     once for each bit of the factor, the lowest first

    A draw takes :func:`latency` cycles. While it is under way the sampler must show the candidate in `place`,
    ``PLACE_LATENCY`` cycles later, before and between draws the first one.

    Parameters
    ----------
    config : :class:`Config`
        Sizes of the machine.

    Members
    -------
    choose : ``In(1)``, choice : ``In(choice_layout(config))``
        A word is written at :func:`~terngen.hw.contract.regs.choice_address`, but not during a draw.
    go : ``In(1)``, slot : ``In(config.slot_bits)``
        Begins to draw for a slot, which must have been there a cycle before, and stays until the end.
    scale : ``In(config.path.width)``
        Scale of the logits of that slot.
    sum : ``In(signed(config.acc_width))``
        Sum of the candidate in `place`.
    place : ``Out(4)``
        Candidate that is to be shown; that which was drawn when `done`.
    done : ``Out(1)``
        The draw is complete.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "choose": In(1),
            "choice": In(choice_layout(config)),
            "go":     In(1),
            "slot":   In(config.slot_bits),
            "scale":  In(config.path.width),
            "sum":    In(signed(config.acc_width)),
            "place":  Out(4),
            "done":   Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        fmt, depth = self._config.path, 1 << self._config.slot_bits

        m.submodules.states  = states  = memory.Memory(shape=32, depth=depth, init=[])
        m.submodules.choices = choices = memory.Memory(shape=Choice, depth=depth, init=[])
        state, put_state   = states.read_port(domain="comb"), states.write_port()
        choice, put_choice = choices.read_port(domain="comb"), choices.write_port()
        random = Signal(32, reset_less=True)             # the generator
        m.d.comb += [
            state.addr.eq(self.slot),
            choice.addr.eq(self.slot),
            put_state.en.eq(self.done | (self.choose & ~self.choice.second)),
            put_state.addr.eq(Mux(self.done, self.slot, self.choice.slot)),
            put_state.data.eq(Mux(self.done, random, self.choice.word)),
            put_choice.en.eq(self.choose & self.choice.second),
            put_choice.addr.eq(self.choice.slot),
            put_choice.data.eq(self.choice.word),
        ]

        # Both factors of the slope have a significand; their exponents say how far the product goes to the right, and
        # so how many steps are left when the first bit of the coldness comes in.
        coldness    = choice.data.coldness
        field       = self.scale[fmt.mantissa_bits:-1]
        cold_field  = coldness[COLDNESS.mantissa_bits:-1]
        one         = NOISE_WIDTH - SCORE_BITS + COLDNESS.mantissa_bits     # of exponents that cancel each other
        steps       = delay(m, C(one + fmt.bias + COLDNESS.bias) - field - cold_field, name="steps")
        is_zero     = delay(m, (field == 0) | (cold_field == 0), name="is_zero")
        significand = Cat(self.scale[:fmt.mantissa_bits], 1)

        slope  = Signal(SLOPE_WIDTH, reset_less=True)
        factor = Signal(DISTANCE_BITS, reset_less=True)
        total  = Signal(SLOPE_WIDTH + 1, reset_less=True)
        left   = Signal(range(_SLOPE_STEPS), reset_less=True)
        steep  = Signal(reset_less=True)        # the slope is too large for its register
        far    = Signal(reset_less=True)        # the distance is not zero
        comes  = Signal(reset_less=True)        # the coldness comes in

        # The table is asked long before a product is complete.
        m.submodules.table = table = memory.Memory(
            shape=NOISE_WIDTH - FRESH_BITS, depth=drawing.NOISE_ENTRIES, init=drawing.noise_table().tolist())
        found = table.read_port()
        zeros = Signal(range(drawing.FIRST_BITS + 1), init=drawing.FIRST_BITS)
        for place in range(drawing.FIRST_BITS):
            with m.If(random[place]):
                m.d.comb += zeros.eq(drawing.FIRST_BITS - 1 - place)
        cells = random[drawing.FIRST_BITS:][:len(found.addr) - len(zeros)]
        m.d.comb += found.addr.eq(Cat(cells, zeros))
        noise = delay(m, Cat(random[drawing.FIRST_BITS + len(cells):][:FRESH_BITS], found.data), name="noise")

        first   = Signal(signed(self._config.acc_width), reset_less=True)    # sum of the best candidate
        current = Signal(4, reset_less=True)
        best    = Signal(NOISE_WIDTH, reset_less=True)      # score
        winner  = Signal(4, reset_less=True)
        score   = Signal(NOISE_WIDTH + 1, reset_less=True)
        m.d.sync += score.eq(noise - total[:NOISE_WIDTH])
        behind  = delay(m, total[NOISE_WIDTH:].any() | (steep & far), name="behind")
        wins    = delay(m, ~behind & ~score[-1] & (score[:-1] > best), name="wins")

        more = add_kept(m, platform, total[1:], Cat(slope, C(0, 1)), factor[0], name="more")

        def add():
            """One bit of the factor."""
            m.d.sync += [
                total.eq(more),
                factor.eq(factor >> 1),
                far.eq(far | factor[0]),
                left.eq(left - 1),
            ]

        with m.FSM():
            with m.State("Idle"):
                m.d.sync += [
                    slope.eq(significand << SLOPE_WIDTH - len(significand)),
                    factor.eq(0),
                    comes.eq(0),
                    total.eq(0),
                    left.eq(_SLOPE_STEPS - 1),
                    random.eq(state.data),
                    first.eq(self.sum),
                    best.eq(0),
                ]
                with m.If(self.go):
                    m.next = "Multiply scale"
            with m.State("Multiply scale"):
                add()
                m.d.sync += comes.eq((left == steps + 1) & ~is_zero)
                with m.If(comes):
                    m.d.sync += factor.eq(Cat(coldness[:COLDNESS.mantissa_bits], 1))
                with m.If(left == 0):
                    m.next = "Slope"
            with m.State("Slope"):
                m.d.sync += slope.eq(total)
                m.d.sync += steep.eq(total[-1] | (~is_zero & (steps <= COLDNESS.mantissa_bits)))
                m.next = "Take"
            with m.State("Take"):
                m.d.sync += [
                    factor.eq((first - self.sum)[:self._config.acc_width]),
                    total.eq(0),
                    far.eq(0),
                    left.eq(DISTANCE_BITS - 1),
                    current.eq(self.place),
                    self.place.eq(self.place + 1),
                ]
                m.next = "Multiply distance"
            with m.State("Multiply distance"):
                add()
                with m.If(left[2:] == 4):       # four times
                    m.d.sync += random.eq(Cat(random[8:], (random ^ random[1:] ^ random[2:] ^ random[22:])[:8]))
                with m.If(left == 0):
                    m.next = "Weigh"
            with m.State("Weigh"):
                m.next = "Compare"
            with m.State("Compare"):
                m.next = "Keep"
            with m.State("Keep"):
                with m.If(wins):
                    m.d.sync += best.eq(score)
                    m.d.sync += winner.eq(current)
                m.next = "Take"
                with m.If(self.place >= choice.data.candidates):
                    m.d.sync += self.place.eq(Mux(wins, current, winner))
                    m.next = "Show"
            with m.State("Show"):
                m.d.comb += self.done.eq(1)
                m.d.sync += self.place.eq(0)
                m.next = "Idle"
        return m
