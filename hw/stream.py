"""Streams around fixed-latency pipelines, and delays to line signals up with them."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Relay", "SkidBuffer", "Streamed", "delay"]


def delay(m, signal, cycles=1, en=None, *, reset=False, name="delayed"):
    """Delay a value by a number of clock cycles.

    Write ``delay(m, a + b)`` for a pipeline register after an expression.

    Parameters
    ----------
    m : :class:`Module`
        Module that receives the registers, in its ``sync`` domain.
    signal : value-like
        What is delayed. Its shape is kept.
    cycles : :class:`int`
        Delay in clock cycles; zero returns the value itself.
    en : value-like or None
        Clock enable of the registers; without one they advance on every cycle.
    reset : :class:`bool`
        Whether a reset of the domain clears the registers. Data needs none; what enables a write does, or
        else a value that was under way when the reset came is written after it.
    name : :class:`str`
        Name of the registers in waveforms.

    Returns
    -------
    value-like
        The value as it was ``cycles`` enabled clock edges ago.
    """
    if cycles < 0:
        raise ValueError(f"Delay must be zero or more cycles, not {cycles!r}")
    for _ in range(cycles):
        register = Signal(signal.shape(), name=name, reset_less=not reset)
        if en is None:
            m.d.sync += register.eq(signal)
        else:
            with m.If(en):
                m.d.sync += register.eq(signal)
        signal = register
    return signal


def _passed(shape):
    """Members of what passes a stream on."""
    return {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))}


class Relay(wiring.Component):
    """Passes a stream on, with everything that it offers from registers, ``ready`` as well.

    Latency is one cycle; throughput is one transfer per cycle. Holds up to two transfers.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    """

    LATENCY_CYCLES = 1

    def __init__(self, shape):
        self._shape = shape
        super().__init__(_passed(shape))

    def elaborate(self, platform):
        m = Module()
        # What came while the output waited, and was not expected to wait.
        spare = Signal(self._shape)
        kept  = Signal()
        m.d.comb += self.i.ready.eq(~kept)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [
                self.o.payload.eq(Mux(kept, spare, self.i.payload)),
                self.o.valid.eq(kept | self.i.valid),
                kept.eq(0),
            ]
        with m.Elif(~kept):
            m.d.sync += [spare.eq(self.i.payload), kept.eq(self.i.valid)]
        return m


class SkidBuffer(wiring.Component):
    """Passes a stream on in the same cycle, with ``ready`` from a register.

    Latency is zero; throughput is one transfer per cycle. Holds one transfer, that which came while the output
    waited and was not expected to wait.

    Parameters
    ----------
    shape : shape-like
        Shape of the payload.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    """

    #: Transfers that may wait inside.
    HELD = 1

    def __init__(self, shape):
        self._shape = shape
        super().__init__(_passed(shape))

    def elaborate(self, platform):
        m = Module()
        spare = Signal(self._shape, reset_less=True)
        kept  = Signal()
        m.d.comb += [
            self.i.ready.eq(~kept),
            self.o.valid.eq(self.i.valid | kept),
            Value.cast(self.o.payload).eq(Mux(kept, Value.cast(spare), Value.cast(self.i.payload))),
        ]
        m.d.sync += kept.eq(self.o.valid & ~self.o.ready)
        with m.If(~kept):
            m.d.sync += spare.eq(self.i.payload)
        return m


class Streamed(wiring.Component):
    """Gives a fixed-latency pipeline an input stream and an output stream.

    Results leave in order. A result that is not taken holds the whole pipeline; bubbles are not
    squeezed out. The latency is that of the unit, and the throughput is one transfer per cycle.

    Parameters
    ----------
    unit : :class:`wiring.Component`
        Pipeline with input ports, output ports, a clock enable ``en`` and its ``LATENCY`` in cycles,
        at least 1. It becomes a submodule.

    Members
    -------
    i : ``In(stream.Signature(...))``
        Operands: the shape of the only input port, or a structure with a field for each of them.
    o : ``Out(stream.Signature(...))``
        Results: the shape of the only output port, or a structure with a field for each of them.
    """

    def __init__(self, unit):
        ports = unit.signature.members
        if "en" not in ports:
            raise TypeError(f"Streamed unit must have a clock enable 'en', {type(unit).__name__} has none")
        if unit.LATENCY < 1:
            raise ValueError(f"Latency of a streamed unit must be at least 1 cycle, not {unit.LATENCY!r}")
        self._unit    = unit
        self._inputs  = {name: port.shape for name, port in ports.items()
                         if port.flow is In and name != "en"}
        self._outputs = {name: port.shape for name, port in ports.items() if port.flow is Out}
        self.LATENCY  = unit.LATENCY
        super().__init__({
            "i": In(stream.Signature(_payload(self._inputs))),
            "o": Out(stream.Signature(_payload(self._outputs))),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self._unit

        valid = Signal(self.LATENCY)  # bit k: the value k + 1 cycles into the pipeline is one
        en    = Signal()
        m.d.comb += en.eq(~self.o.valid | self.o.ready)
        with m.If(en):
            m.d.sync += valid.eq(Cat(self.i.valid, valid))
        m.d.comb += [
            unit.en.eq(en),
            self.i.ready.eq(en),
            self.o.valid.eq(valid[-1]),
        ]
        for name in self._inputs:
            m.d.comb += getattr(unit, name).eq(_field(self.i.payload, self._inputs, name))
        for name in self._outputs:
            m.d.comb += _field(self.o.payload, self._outputs, name).eq(getattr(unit, name))
        return m


def _payload(shapes):
    """The shape itself if there is one, or else a structure of all."""
    if len(shapes) == 1:
        return next(iter(shapes.values()))
    return data.StructLayout(shapes)


def _field(payload, shapes, name):
    return payload if len(shapes) == 1 else payload[name]
