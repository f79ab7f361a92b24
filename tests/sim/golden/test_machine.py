"""The golden machine, operation by operation, against one slot and one element at a time."""

import copy
import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from terngen.host.compile import compile_tape, default_config
from terngen.host.convert.checkpoint import Checkpoint
from terngen.hw.contract import formats, tape, trace
from terngen.hw.contract.config import Config, Sites
from terngen.hw.contract.formats import FloatFormat, Multiplier
from terngen.hw.contract.tape import Mark, Op, Tape, TapeFormatError
from terngen.sim.golden.machine import NO_CANDIDATE, GoldenMachine, MachineFault
from terngen.sim.golden.sequence import Sequence

SIZES = {"beat_bits": 32, "lanes": 2, "slots": 3, "hidden": 8, "wide": 12, "rows": 10, "state": 16, "top_k": 4}
#: No two products round alike, so that none can be taken for another.
DISTINCT = Sites(**{field.name: Multiplier(f"lmul-{40 + 60 * place}")
                    for place, field in enumerate(dataclasses.fields(Sites))})
CONFIGS = {
    "exact":    Config(**SIZES),
    "distinct": Config(**SIZES, sites=DISTINCT),
    "narrow":   Config(**SIZES, path=FloatFormat(5, 7)),
}
MASKS = [(0, 1, 2), (1,), (0, 2)]


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def random_codes(fmt, rng, *shape):
    """Codes of ordinary numbers, with a zero here and there."""
    numbers = rng.normal(0, 2, shape) * (rng.random(shape) < 0.9)
    return formats.from_float(fmt, numbers)


def parameters(config, rng, length):
    """A parameter vector: codes of the tape, and what they mean on the path."""
    words = random_codes(config.path.parameter, rng, length)
    return words, formats.widen_parameter(config.path, words).tolist()


def step(config, op, length, *, words=None, trits=None, **fields):
    """A descriptor with what follows it."""
    octets = b""
    if words is not None:
        octets, fields["weighted"] = tape.pack_parameters(config, words), 1
    if trits is not None:
        octets, fields["place"] = tape.pack_matrix(config, trits), trits.shape[1]
    return tape.pack_descriptor(config, opcode=op, length=length,
                                beats=len(octets) // config.beat_bytes, **fields) + octets


def play(machine, *steps, slots=None, **options):
    """Play some steps."""
    machine.image = np.frombuffer(b"".join(steps), np.uint8)
    machine.forget()
    machine.play(Mark(0, len(machine.image) // machine.config.beat_bytes), slots, **options)


def filled(config, rng, **options):
    """A machine in the middle of something."""
    machine = GoldenMachine(config, np.zeros(0, np.uint8), **options)
    for name in ("x", "t0", "t1", "y", "h", "factor", "root", "scale"):
        place    = getattr(machine, name)
        place[:] = random_codes(config.path, rng, *place.shape)
    machine.t0[:]   = formats.magnitude(config.path, machine.t0)
    machine.peak[:] = formats.magnitude(config.path, machine.root)
    machine.squares[:] = rng.integers(0, 1 << 20, machine.squares.shape)
    return machine


# One slot, in Python numbers.

class Slot:
    """What the operations of ``tape.Op`` say, one element after the other."""

    def __init__(self, machine, slot):
        self.config = machine.config
        self.fmt    = machine.config.path
        for name in ("x", "t0", "t1", "y", "h"):
            setattr(self, name, getattr(machine, name)[slot].tolist())
        for name in ("peak", "factor", "root"):
            setattr(self, name, int(getattr(machine, name)[slot]))
        self.squares = sum_of(self.fmt, machine.squares[slot])

    def times(self, a, b, site):
        return int(formats.multiply(self.fmt, a, b, getattr(self.config.sites, site)))

    def silu(self, a):
        return self.times(a, int(formats.sigmoid(self.fmt, a)), "silu")

    def values(self, sums, scale, peak):
        s = self.times(self.times(scale, peak, "dequantise"), self.root, "dequantise")
        return [self.times(int(formats.from_int(self.fmt, number)), s, "dequantise")
                for number in sums]

    def scan(self, weighted):
        self.y[:len(weighted)] = weighted
        self.peak   = max(weighted, key=lambda code: abs(formats.to_float(self.fmt, code)))
        self.peak   = int(formats.magnitude(self.fmt, self.peak))
        self.factor = int(formats.reciprocal127(self.fmt, self.peak))

    def square(self, numbers, w, first):
        if first:
            self.squares = Fraction(0)
        for number, weight in zip(numbers, w):
            code = formats.square(self.fmt, self.times(number, weight, "norm"), self.config.sites.square)
            self.squares += Fraction(float(formats.to_float(self.fmt.wide, code)))

    # Operations, with parameters `w` and values `v`.

    def SCAN(self, w):
        self.scan([self.times(x, weight, "norm") for x, weight in zip(self.x, w)])

    def GATE(self, w, v):
        for place, (weight, value) in enumerate(zip(w, v)):
            value = int(formats.sigmoid(self.fmt, formats.negate(self.fmt, value)))
            self.t0[place] = self.times(value, weight, "gate")

    def STORE(self, w, v, first=0):
        self.t1[:len(v)] = v
        self.square(v, w, first=first)

    def SILU(self, w, v):
        self.t0[:len(v)] = [self.silu(value) for value in v]

    def MLGRU(self, w, v, start=4):
        weighted = []
        for place, (weight, value) in enumerate(zip(w, v)):
            h = self.h[start + place]
            change = formats.subtract(self.fmt, self.silu(value), h)
            h = int(formats.add(self.fmt, h, self.times(self.t0[place], change, "recurrence")))
            u = self.times(self.t1[place], self.silu(h), "output")
            self.h[start + place], self.t1[place] = h, u
            weighted.append(self.times(u, weight, "norm"))
        self.scan(weighted)

    def GLU(self, w, v):
        self.t1[:len(v)] = [self.times(gate, value, "glu") for gate, value in zip(self.t0, v)]
        self.scan([self.times(u, weight, "norm") for u, weight in zip(self.t1, w)])

    def RESIDUAL(self, w, v):
        self.x[:len(v)] = [int(formats.add(self.fmt, x, value)) for x, value in zip(self.x, v)]
        self.scan([self.times(x, weight, "norm") for x, weight in zip(self.x, w)])


def sum_of(fmt, bins):
    """What a sum of squares in bins is worth."""
    unit = Fraction(1, 2**(fmt.wide.bias + fmt.mantissa_bits))
    return sum((Fraction(int(total)) * 2**(8 * place) for place, total in enumerate(bins)), Fraction(0)) * unit


def assert_slot(machine, slot, expected):
    for name in ("x", "t0", "t1", "y", "h", "peak", "factor", "root"):
        assert getattr(machine, name)[slot].tolist() == getattr(expected, name), (name, slot)
    assert sum_of(machine.config.path, machine.squares[slot]) == expected.squares


@pytest.mark.parametrize("slots", MASKS)
@pytest.mark.parametrize("constant", [False, True])     # the weight, and whether sums of squares go on
@pytest.mark.parametrize("op", [Op.SCAN, Op.GATE, Op.STORE, Op.SILU, Op.MLGRU, Op.GLU, Op.RESIDUAL],
                         ids=lambda op: op.name)
def test_operation(config, rng, op, constant, slots):
    machine = filled(config, rng)
    length  = 8 if op in (Op.SCAN, Op.RESIDUAL) else 10
    words, w = parameters(config, rng, length)
    weight   = int(random_codes(config.path, rng))
    scale    = int(random_codes(config.path, rng))
    fields   = {"weight": weight} if constant else {"words": words}
    if op is Op.MLGRU:
        fields["place"] = 2     # groups of two
    expected = [Slot(machine, slot) for slot in range(3)]
    more = {"first": int(constant)} if op is Op.STORE else {}
    if op in tape.DRAINS:
        sums  = rng.integers(-3000, 3000, (3, length))
        peaks = formats.magnitude(config.path, random_codes(config.path, rng, 3))
        machine.push_sums(sums, peaks)
    for slot in slots:
        arguments = [[weight] * length if constant else w]
        if op in tape.DRAINS:
            arguments.append(expected[slot].values(sums[slot].tolist(), scale, int(peaks[slot])))
        getattr(expected[slot], op.name)(*arguments, **more)

    play(machine, step(config, op, length, scale=scale, **fields, **more), slots=slots)
    for slot in range(3):
        assert_slot(machine, slot, expected[slot])


@pytest.mark.parametrize("slots", MASKS)
@pytest.mark.parametrize("source", [0, 1])
def test_square(config, rng, source, slots):
    """Squares of two vectors are added, then a term; the root is that of their sum."""
    machine  = filled(config, rng)
    expected = [Slot(machine, slot) for slot in range(3)]
    (words, w), (others, v) = parameters(config, rng, 8), parameters(config, rng, 6)
    term = formats.from_float(config.path.wide, 0.37)
    for slot in slots:
        one = expected[slot]
        one.square(one.t1 if source else one.x, w, first=1)
        one.square(one.x, v, first=0)
        one.squares += Fraction(float(formats.to_float(config.path.wide, term)))

    play(machine, step(config, Op.SQUARE, 8, words=words, source=source, first=1),
         step(config, Op.SQUARE, 6, words=others, last=1, scale=int(term)), slots=slots)
    for slot in range(3):
        if slot in slots:
            one = expected[slot]
            one.root = int(machine.root[slot])
            root = Fraction(float(formats.to_float(config.path, one.root)))
            # Half a step, and the truncation of the operand.
            step_size = 2.0**-config.path.mantissa_bits * (0.5 + 2**-6)
            assert abs(float(root**2 * one.squares) - 1) <= 2 * step_size + step_size**2
        assert_slot(machine, slot, expected[slot])


def test_square_without_last(rng):
    """The root stays until another one is asked for."""
    config   = CONFIGS["exact"]
    machine  = filled(config, rng)
    before   = machine.root.copy()
    words, _ = parameters(config, rng, 8)
    play(machine, step(config, Op.SQUARE, 8, words=words, first=1, scale=0xFFFFF))
    assert np.array_equal(machine.root, before)


@pytest.mark.parametrize("slots", MASKS)
def test_quantise(config, rng, slots):
    machine = filled(config, rng)
    # Factors between ordinary ones and such that saturate.
    machine.factor[:] = formats.from_float(config.path, [40.0, 127 / 3, 1000.0])
    before  = [Slot(machine, slot) for slot in range(3)]
    play(machine, step(config, Op.QUANTISE, 12), slots=slots)
    codes   = machine.pop_codes()
    for slot in range(3):
        assert_slot(machine, slot, before[slot])
        one = before[slot]
        expected = []
        for y in one.y:
            number = formats.to_float(config.path, one.times(y, one.factor, "quantise"))
            expected.append(max(-127, min(127, round(Fraction(float(number))))) if slot in slots else 0)
        assert codes[slot].tolist() == expected
    if 2 in slots:
        assert {-127, 127} <= set(codes[2].tolist())


def test_scan_of_zeros():
    """A vector of zeros has no scale, and its codes are zeros."""
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    machine.factor[:] = 5
    play(machine, step(config, Op.SCAN, 8, weight=config.path.one), step(config, Op.QUANTISE, 8))
    assert not machine.peak.any() and not machine.factor.any() and not machine.pop_codes().any()


@pytest.mark.parametrize("multiplier", ["exact", "lmul", "lmul-mitchell", "lmul-unbiased"])
def test_state_never_grows(rng, multiplier):
    """With every multiplier a state comes nearer to its candidate, and decays in about the right time."""
    config = Config(**SIZES | {"hidden": 10, "slots": 1}, sites=Sites.all(Multiplier(multiplier)))
    fmt    = config.path
    keep   = np.array([0.0, 0.1, 0.5, 0.8, 0.9, 0.96, 0.97, 0.99])
    image  = step(config, Op.MLGRU, 8, weight=fmt.one, scale=fmt.one)

    def states(candidate, start, steps):
        machine = GoldenMachine(config, np.frombuffer(image, np.uint8))
        machine.t0[0, :8] = formats.from_float(fmt, 1 - keep)
        machine.root[:]   = fmt.one
        machine.h[0, :8]  = formats.from_float(fmt, start)
        for _ in range(steps):
            machine.push_sums(np.full((1, 8), candidate), np.array([fmt.one]))
            machine.play(Mark(0, len(image) // config.beat_bytes))
            yield formats.to_float(fmt, machine.h[0, :8])

    before = np.ones(8)
    times  = np.zeros(8)
    for h in states(0, 1.0, 128):
        assert (np.abs(h) <= np.abs(before)).all()
        times += h > 1 / np.e
        before = h
    # Steps until 1/e: as many as there should be, but for the error of the multiplier and a step.
    expected = -1 / np.log(keep[1:])
    assert (np.abs(times[1:] + 0.5 - expected) <= 0.09 * expected + 1).all()

    # And towards a candidate from the other side of zero; the first channel is there at once.
    *_, h = states(3, -5.0, 700)
    assert h[0] == pytest.approx(3 / (1 + np.exp(-3)), rel=0.25)     # four products, one after the other
    # A step that is less than half of the last place of the state is none.
    assert (np.abs(h - h[0]) <= 1.1 * 2.0**-10 / (1 - keep) + 1e-2).all()


# The array and the queues.

def quantised(config, machine, codes):
    """Make `codes` (slots, cols) stand in front of the queue."""
    machine.y[:, :codes.shape[1]] = formats.from_int(config.path, codes)
    machine.factor[:] = config.path.one
    play(machine, step(config, Op.QUANTISE, codes.shape[1]))


def drained(machine):
    """Take the sums in front of the queue; a SILU takes them as they are."""
    play(machine, step(machine.config, Op.SILU, 10))
    return machine.sums


@pytest.mark.parametrize("slots", MASKS)
@pytest.mark.parametrize("rows, cols", [(10, 12), (7, 11), (1, 1)])
def test_matvec(rng, rows, cols, slots):
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    codes   = rng.integers(-127, 128, (3, cols))
    trits   = rng.integers(-1, 2, (rows, cols)).astype(np.int8)
    quantised(config, machine, codes)
    play(machine, step(config, Op.MATVEC, rows, trits=trits, release=1), slots=slots)
    play(machine, step(config, Op.SILU, rows), slots=slots)
    for slot in range(3):
        expected = [sum(int(t) * int(c) for t, c in zip(row, codes[slot])) for row in trits]
        assert machine.sums[slot].tolist() == (expected if slot in slots else [0] * rows)


@pytest.mark.parametrize("slots", [1, 2, 70])
def test_matvec_large(rng, slots):
    """Matrices that are widened piece by piece, up to the largest sums of all."""
    config  = Config(hidden=4096, wide=4096, rows=512, state=64)
    machine = GoldenMachine(config, np.zeros(0, np.uint8), slots=slots)
    codes   = rng.integers(-127, 128, (slots, 4096))
    trits   = rng.integers(-1, 2, (301, 4096)).astype(np.int8)
    codes[0], trits[0], trits[300] = 127, 1, -1
    quantised(config, machine, codes)
    play(machine, step(config, Op.MATVEC, 301, trits=trits, release=1), step(config, Op.SILU, 301))
    assert np.array_equal(machine.sums, codes @ trits.T.astype(np.int64))
    assert machine.sums[0, 0] == 127 * 4096 == -machine.sums[0, 300]


def test_release(rng):
    """Codes stay for another matrix until they are released, and sums come in order."""
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    first, second = rng.integers(-127, 128, (2, 3, 6))
    a, b, c = rng.integers(-1, 2, (3, 10, 6)).astype(np.int8)
    quantised(config, machine, first)
    quantised(config, machine, second)
    play(machine, step(config, Op.MATVEC, 10, trits=a), step(config, Op.MATVEC, 10, trits=b, release=1))
    assert np.array_equal(drained(machine), first @ a.T)
    play(machine, step(config, Op.MATVEC, 10, trits=c, release=1))
    assert np.array_equal(drained(machine), first @ b.T)
    assert np.array_equal(drained(machine), second @ c.T)


def test_peak_travels_with_the_codes(rng):
    """Sums are scaled by the peak of the vector that they were made of, not by the latest one."""
    config  = CONFIGS["exact"]
    fmt     = config.path
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    machine.root[:] = fmt.one
    machine.x[:]    = formats.from_float(fmt, rng.normal(0, 1, (3, 8)))
    trits = np.eye(8, dtype=np.int8)
    half, three = (int(formats.from_float(fmt, number)) for number in (0.5, 3.0))
    play(machine, step(config, Op.SCAN, 8, weight=half), step(config, Op.QUANTISE, 8),
         step(config, Op.SCAN, 8, weight=three), step(config, Op.QUANTISE, 8),
         step(config, Op.MATVEC, 8, trits=trits, release=1),
         step(config, Op.MATVEC, 8, trits=trits, release=1),
         step(config, Op.STORE, 8, scale=int(formats.from_float(fmt, 1 / 127)), first=1))
    x = formats.to_float(fmt, machine.x)
    v = formats.to_float(fmt, machine.t1[:, :8])
    # Half a code, and a few roundings.
    assert np.abs(v - 0.5 * x).max() <= 0.5 * np.abs(x).max() * (0.5 / 127 + 4 * 2**-11)


def test_queues_have_two_banks(rng):
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    quantise = step(config, Op.QUANTISE, 8)
    matvec   = step(config, Op.MATVEC, 8, trits=np.eye(8, dtype=np.int8))
    play(machine, quantise, quantise)
    with pytest.raises(MachineFault, match=r"^No bank is free for the codes at beat 0$"):
        play(machine, quantise)
    play(machine, matvec, matvec)
    with pytest.raises(MachineFault, match=r"^No bank is free for the sums of the matrix at beat 0$"):
        play(machine, matvec)


# The sampler.

def logits(config, rows, *, first, **fields):
    return step(config, Op.LOGITS, rows, first=int(first), **fields)


@pytest.mark.parametrize("vocab", [None, 27, 21, 20, 3])
def test_top_k(rng, vocab):
    """Largest first, equal sums in the order of their rows, over all tiles, without rows that are no token."""
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    sums    = rng.integers(-2, 3, (3, 27))      # ties everywhere
    for _ in range(2):                          # the second pass starts anew
        for start, stop in [(0, 10), (10, 17), (17, 27)]:
            tile = sums[:, start:stop]
            machine.push_sums(tile, np.zeros(3, int))
            play(machine, logits(config, tile.shape[1], first=start == 0), vocab=vocab)
    count = 27 if vocab is None else vocab
    for slot in range(3):
        best = sorted(range(count), key=lambda row: (-sums[slot, row], row))[:4]
        rest = 4 - len(best)
        assert machine.top_index[slot].tolist() == best + [NO_CANDIDATE] * rest
        assert machine.top_sum[slot].tolist() == [*sums[slot, best], *[-2**11] * rest]
    assert np.array_equal(np.concatenate(machine.head, axis=1), sums)


def test_top_k_of_some_slots(rng):
    """Candidates of slots that do not take part stay."""
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    first, second = rng.integers(-99, 99, (2, 3, 10))
    for slots, sums in [((0, 1, 2), first), ((0, 2), second)]:
        machine.push_sums(sums, np.zeros(3, int))
        play(machine, logits(config, 10, first=True), slots=slots)
    assert machine.top_sum[:, 0].tolist() == [second[0].max(), first[1].max(), second[2].max()]
    assert machine.top_index[1].tolist() == np.argsort(-first[1], kind="stable")[:4].tolist()


def test_scale_of_logits(config, rng):
    machine = filled(config, rng)
    one     = Slot(machine, 1)
    peak, scale = random_codes(config.path, rng, 3), int(random_codes(config.path, rng))
    before  = machine.scale.copy()
    machine.push_sums(np.zeros((3, 10), int), peak)
    play(machine, logits(config, 10, first=True, scale=scale), slots=[1])
    expected = one.times(one.times(scale, int(peak[1]), "dequantise"), one.root, "dequantise")
    assert machine.scale.tolist() == [before[0], expected, before[2]]


# Embedding, state, image.

def test_embedding(rng):
    config  = CONFIGS["exact"]
    rows    = random_codes(config.path.parameter, rng, 20, 8)
    image   = bytes(16) + b"".join(tape.pack_parameters(config, row) for row in rows)
    machine = GoldenMachine(config, np.frombuffer(image, np.uint8))
    machine.x[:] = 77
    machine.embed({2: 19, 0: 3}, 4, 4, 7)
    assert machine.x[0].tolist() == [*formats.widen_parameter(config.path, rows[3, :7]), 77]
    assert machine.x[1].tolist() == [77] * 8
    assert machine.x[2].tolist() == [*formats.widen_parameter(config.path, rows[19, :7]), 77]
    with pytest.raises(MachineFault, match=r"^Token 20 has no embedding on this tape$"):
        machine.embed({0: 20}, 4, 4, 8)


def test_embedding_of_eight_bits(rng):
    config  = dataclasses.replace(CONFIGS["exact"], embedding=FloatFormat(4, 3))
    rows    = random_codes(config.embedding, rng, 20, 7)
    machine = GoldenMachine(config, np.frombuffer(bytes(16) + tape.pack_embedding(config, rows), np.uint8))
    beats   = config.embedding_beats(7)
    machine.embed({2: 19, 0: 3}, 16 // config.beat_bytes, beats, 7)
    for slot, token in (0, 3), (2, 19):
        assert formats.to_float(config.path, machine.x[slot, :7]).tolist() == (
            formats.to_float(config.embedding, rows[token]).tolist())


def test_reset(rng):
    """Slots that are named take their state as zero; reset clears all of it, and the queues."""
    config   = CONFIGS["exact"]
    machine  = filled(config, rng)
    cleared  = copy.deepcopy(machine)
    cleared.h[1] = 0
    sums     = rng.integers(-1000, 1000, (3, 8))
    for each, reset in ((machine, [1]), (cleared, [])):
        each.push_sums(sums, each.peak)
        play(each, step(config, Op.MLGRU, 8, weight=1), slots=[0, 1], reset=reset)
    assert machine.h[:, :8].any()
    assert np.array_equal(machine.h[:, :8], cleared.h[:, :8])
    play(machine, step(config, Op.QUANTISE, 8), step(config, Op.QUANTISE, 8))
    machine.push_sums(np.zeros((3, 10), int), np.zeros(3, int))
    machine.reset()
    assert not machine.h.any()
    play(machine, step(config, Op.QUANTISE, 8), step(config, Op.QUANTISE, 8))
    with pytest.raises(MachineFault, match="asks for sums that nobody computed"):
        play(machine, step(config, Op.SILU, 10))


def test_forget(rng):
    """A machine that is told that the image has changed computes as one that has never seen another."""
    config = CONFIGS["exact"]
    x      = random_codes(config.path, rng, 3, 8)

    def image():
        trits = rng.integers(-1, 2, (10, 8)).astype(np.int8)
        return np.frombuffer(
            step(config, Op.SCAN, 8, words=parameters(config, rng, 8)[0]) + step(config, Op.QUANTISE, 8)
            + step(config, Op.MATVEC, 10, trits=trits, release=1) + step(config, Op.SILU, 10), np.uint8)

    def numbers(machine):
        machine.x[:] = x
        machine.play(Mark(0, len(machine.image) // config.beat_bytes))
        return machine.sums.tolist(), machine.y.tolist()

    first, second = image(), image()
    machine = GoldenMachine(config, first)
    before  = numbers(machine)
    machine.image = second
    machine.forget()
    after = numbers(machine)
    assert after == numbers(GoldenMachine(config, second))
    assert after[0] != before[0] and after[1] != before[1]


def test_image_is_decoded_once(monkeypatch, rng):
    config  = CONFIGS["exact"]
    machine = GoldenMachine(config, np.zeros(0, np.uint8))
    play(machine, step(config, Op.QUANTISE, 8),
         step(config, Op.MATVEC, 10, trits=np.ones((10, 8), np.int8), release=1), step(config, Op.SILU, 10))

    def decoded(*arguments):
        raise AssertionError("decoded again")

    for name in ("walk", "unpack_matrix", "unpack_parameters"):
        monkeypatch.setattr(tape, name, decoded)
    machine.play(Mark(0, len(machine.image) // 4))


BAD = CONFIGS["exact"]


@pytest.mark.parametrize("steps, fault, message", [
    ([step(BAD, Op.SCAN, 9)], MachineFault,
     r"^Descriptor at beat 0 asks for 9 elements; this machine has room for 8$"),
    ([step(BAD, Op.SQUARE, 9)], MachineFault, r"asks for 9 elements; this machine has room for 8$"),
    ([step(BAD, Op.SQUARE, 13, source=1)], MachineFault, r"asks for 13 elements; this machine has room for 12$"),
    ([step(BAD, Op.QUANTISE, 8), step(BAD, Op.MATVEC, 11, trits=np.ones((11, 8), np.int8))], MachineFault,
     r"^Descriptor at beat 4 asks for 11 elements; this machine has room for 10$"),
    ([step(BAD, Op.QUANTISE, 0)], MachineFault, r"asks for 0 elements"),
    ([step(BAD, Op.EMBED, 8)], MachineFault, r"asks for an embedding row; a step does that$"),
    ([step(BAD, Op.MATVEC, 8, trits=np.ones((8, 8), np.int8))], MachineFault,
     r"^Matrix at beat 0 has no codes to multiply$"),
    ([step(BAD, Op.QUANTISE, 8), step(BAD, Op.MATVEC, 8, trits=np.ones((8, 7), np.int8))], MachineFault,
     r"^Matrix at beat 4 has 7 columns, the codes are 8$"),
    ([step(BAD, Op.QUANTISE, 8), step(BAD, Op.MATVEC, 8, place=8)], MachineFault,
     r"^Matrix of 8 by 8 at beat 4 must take 4 beats, not 0$"),
    ([step(BAD, Op.SCAN, 8), tape.pack_descriptor(BAD, opcode=Op.SILU, length=8, beats=1), bytes(4)], MachineFault,
     r"^Descriptor at beat 4 has no parameters, so that no beats may follow it, not 1$"),
    ([step(BAD, Op.SCAN, 8, weighted=1)], MachineFault, r"^Parameters at beat 0 must take 4 beats, not 0$"),
    ([step(BAD, Op.GATE, 8)], MachineFault, r"^Descriptor at beat 0 asks for sums that nobody computed$"),
    ([step(BAD, Op.QUANTISE, 8), step(BAD, Op.MATVEC, 8, trits=np.ones((8, 8), np.int8)), step(BAD, Op.GATE, 10)],
     MachineFault, r"^Descriptor at beat 12 asks for 10 sums, there are 8$"),
    ([step(BAD, Op.SCAN, 8), bytes([255] * 16)], TapeFormatError, r"^There is no descriptor at beat 4"),
])
def test_faults(steps, fault, message):
    machine = GoldenMachine(BAD, np.zeros(0, np.uint8))
    with pytest.raises(fault, match=message):
        play(machine, *steps)


def test_matrix_of_no_trits():
    machine = GoldenMachine(BAD, np.zeros(0, np.uint8))
    matrix  = bytearray(step(BAD, Op.MATVEC, 8, trits=np.ones((8, 8), np.int8)))
    matrix[16] = 0xFF
    with pytest.raises(MachineFault, match=r"^Matrix at beat 4 is not one of trits: Byte 0 must be a code of"):
        play(machine, step(BAD, Op.QUANTISE, 8), bytes(matrix))


def test_state_beyond_the_machine(rng):
    machine = filled(BAD, rng)
    machine.push_sums(np.zeros((3, 10), int), np.zeros(3, int))
    with pytest.raises(MachineFault, match=r"^State up to element 18 is needed; this machine has 16$"):
        play(machine, step(BAD, Op.MLGRU, 10, place=4))


def test_steps_before_a_fault_are_executed():
    """As a machine does that meets what it does not know."""
    image   = step(BAD, Op.SCAN, 8, weight=BAD.path.one) + bytes([255] * 16)
    machine = GoldenMachine(BAD, np.frombuffer(image, np.uint8))
    machine.x[:] = BAD.path.one
    for _ in range(2):
        machine.y[:] = 0
        with pytest.raises(TapeFormatError):
            machine.play(Mark(0, 8))
        assert (machine.y[:, :8] == BAD.path.one).all()


# Whole models.

@pytest.fixture(scope="module")
def tiny(root, tmp_path_factory):
    """A model of two layers, 64 wide."""
    model = Checkpoint.open(root / "tests" / "data" / "reference" / "tiny")
    path  = tmp_path_factory.mktemp("tape") / "tiny.tape"
    compile_tape(model, default_config(model.geometry, sites=DISTINCT), path)
    return Tape.open(path)


class Recorder:
    """What a machine computes: a list for each slot, in order."""

    def __init__(self, machine):
        self.slots = {slot: [] for slot in range(machine.slots)}
        machine.observe = self._add

    def _add(self, event):
        for place, slot in enumerate(event.slots.tolist()):
            values = {name: value[place].tolist() for name, value in {**event.elements, **event.scalars}.items()}
            self.slots[slot].append((event.op, event.beat, values))


def advance(machine, laid_out, tokens, **options):
    model, marks = laid_out.model, laid_out.marks
    machine.embed(tokens, model["embedding_start"], model["embedding_beats"], model["hidden_size"])
    machine.play(Mark(marks["layers"].start, marks["layers"].count + marks["head"].count), sorted(tokens),
                 vocab=model["vocab_size"], **options)


def alone(laid_out, tokens):
    """What a machine with one slot computes, and the logits after each token."""
    machine  = GoldenMachine(laid_out.config, laid_out.image, slots=1)
    recorder = Recorder(machine)
    logits   = []
    for token in tokens:
        advance(machine, laid_out, {0: token})
        logits.append(machine.head[0][0] * formats.to_float(machine.config.path, machine.scale[0]))
    return recorder.slots[0], np.stack(logits)


def test_slots_are_independent(tiny):
    """Three sequences with pauses, that begin at different times: each value is as if it were alone."""
    rng       = np.random.default_rng(3)
    sequences = rng.integers(0, 128, (3, 6)).tolist()
    machine   = GoldenMachine(tiny.config, tiny.image, slots=3)
    recorder  = Recorder(machine)
    machine.h[:] = random_codes(tiny.config.path, rng, *machine.h.shape)
    left = [list(sequence) for sequence in sequences]
    while any(left):
        slots = [slot for slot in range(3) if left[slot] and rng.random() < 0.6]
        fresh = [slot for slot in slots if len(left[slot]) == 6]
        if slots:
            advance(machine, tiny, {slot: left[slot].pop(0) for slot in slots}, reset=fresh)
    for slot in range(3):
        assert recorder.slots[slot] == alone(tiny, sequences[slot])[0]


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_chain(tiny, chunk):
    """Slots as consecutive tokens give the values of one token after the other."""
    tokens   = np.random.default_rng(4).integers(0, 128, 23).tolist()
    sequence = Sequence(tiny, chunk=chunk)
    recorder = Recorder(sequence.machine)
    events, logits = [], []
    for part in (tokens[:7], tokens[7:8], tokens[8:]):
        for start in range(0, len(part), chunk):
            piece = part[start:start + chunk]
            logits.append(sequence.advance(piece))
            for slot in range(len(piece)):
                events += recorder.slots[slot]
                recorder.slots[slot] = []
    logits = np.concatenate(logits)
    expected = alone(tiny, tokens)
    assert events == expected[0]
    np.testing.assert_allclose(logits, expected[1], rtol=1e-6)
    sequence.reset()
    np.testing.assert_array_equal(sequence.advance(tokens[:3]), logits[:3])


def test_events(tiny):
    """Every operation reports the fields that the trace of the gateware has."""
    events, _ = alone(tiny, [1])
    assert {op for op, _, _ in events} == set(Op) - {Op.MATVEC}
    for op, _, fields in events:
        named = set(trace.ELEMENTS[op]) | set(trace.SCALARS[op])
        assert set(fields) == named or (op is Op.SQUARE and set(fields) == named - {"root"})


def test_foreign_token(tiny):
    sequence = Sequence(tiny)
    with pytest.raises(ValueError, match=r"^Token must be from 0 to 127, not 128$"):
        sequence.advance([1, 128])
    with pytest.raises(ValueError, match=r"^Chunk must be at least 1 token, not 0$"):
        Sequence(tiny, chunk=0)
