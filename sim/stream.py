"""Testbench helpers for streams in Amaranth's built-in simulator.

One coroutine per stream: a producer calls :func:`put`, a consumer calls :func:`get`, and :func:`run`
plays them against the component. The rules are those of Amaranth's stream documentation: a transfer
happens when `valid` and `ready` meet at a clock edge, and a producer holds `valid` and `payload`
until then.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from typing import Any

from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

__all__ = ["StreamError", "get", "put", "run"]

CLOCK_PERIOD = 1e-8

#: What each testbench is doing, by its context, for the message of a test that hangs.
_doing: "weakref.WeakKeyDictionary[Any, str]" = weakref.WeakKeyDictionary()


class StreamError(AssertionError):
    """A producer broke a stream rule."""


async def put(ctx, stream, values: Iterable, *, stall: Callable[[], bool] | None = None):
    """Send `values` into the `stream`, one transfer each.

    Parameters
    ----------
    values
        Payloads, as :meth:`ctx.set` takes them: integers, or mappings for structures.
    stall
        Asked in each cycle before a payload is offered; while it is true `valid` stays low. An
        offered payload is never withdrawn.
    """
    values = list(values)
    always_valid = stream.signature.always_valid
    if always_valid and stall is not None:
        raise ValueError("Stream that is always valid cannot be stalled by its producer")
    for index, value in enumerate(values):
        _doing[ctx] = f"putting value {index} of {len(values)}"
        while stall is not None and stall():
            await ctx.tick()
        ctx.set(stream.payload, value)
        if not always_valid:
            ctx.set(stream.valid, 1)
        in_reset, ready = True, False
        while in_reset or not ready:
            _, in_reset, ready = await ctx.tick().sample(stream.ready)
        if not always_valid:
            ctx.set(stream.valid, 0)
    _doing.pop(ctx, None)


async def get(ctx, stream, count: int, *, stall: Callable[[], bool] | None = None) -> list:
    """Receive `count` payloads from the `stream`.

    Parameters
    ----------
    stall
        Asked in each cycle; while it is true `ready` stays low.

    Returns
    -------
    :class:`list`
        Payloads, as :meth:`ctx.get` gives them.

    Raises
    ------
    StreamError
        If the producer withdraws or changes a payload that has not been taken.
    """
    always_ready = stream.signature.always_ready
    if always_ready and stall is not None:
        raise ValueError("Stream that is always ready cannot be stalled by its consumer")
    taken = []
    held = None
    while len(taken) < count:
        _doing[ctx] = f"getting value {len(taken)} of {count}"
        ready = stall is None or not stall()
        if not always_ready:
            ctx.set(stream.ready, ready)
        _, in_reset, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
        if held is not None and not in_reset:
            if not valid:
                raise StreamError(f"Producer must hold valid until the transfer, but withdrew {held[0]!r}")
            if payload != held[0]:
                raise StreamError("Producer must hold the payload until the transfer, "
                                  f"but changed {held[0]!r} to {payload!r}")
        held = None
        if valid and not in_reset:
            if ready:
                taken.append(payload)
            else:
                held = (payload,)
    if not always_ready:
        ctx.set(stream.ready, 0)
    _doing.pop(ctx, None)
    return taken


def run(dut, *testbenches, cycles: int = 10_000, domain: ClockDomain | None = None,
        vcd: str | None = None) -> int:
    """Play the `testbenches` against `dut` until all of them have returned.

    Parameters
    ----------
    dut
        Component or elaboratable; a combinational one as well.
    testbenches
        Coroutine functions of one argument, the simulator's context.
    cycles
        Clock cycles after which the test fails.
    domain
        The `sync` domain, for a test that asserts its reset: `ctx.set(domain.rst, 1)`.
    vcd
        File to which a waveform is written.

    Returns
    -------
    :class:`int`
        Number of clock edges until the last testbench returned.

    Raises
    ------
    AssertionError
        If a testbench has not returned after the budget; the message says which, and what it was
        doing.
    """
    top = Module()
    top.domains += domain if domain is not None else ClockDomain("sync")
    top.submodules.dut = dut

    elapsed = 0
    contexts = {}
    coroutines = []
    failures = []

    async def watchdog(ctx):
        nonlocal elapsed
        while elapsed < cycles:
            await ctx.tick()
            elapsed += 1
        waiting = ", ".join(f"{name} ({_doing.get(context, 'neither putting nor getting')})"
                            for context, name in contexts.items())
        failures.append(AssertionError(f"After {cycles} cycles these still wait: {waiting}"))

    def named(testbench):
        async def wrapped(ctx):
            contexts[ctx] = testbench.__name__
            coroutines.append(testbench(ctx))
            try:
                await coroutines[-1]
            except Exception as failure:
                failures.append(failure)
            contexts.pop(ctx)
        return wrapped

    simulator = Simulator(top)
    simulator.add_clock(CLOCK_PERIOD)
    simulator.add_testbench(watchdog, background=True)
    for testbench in testbenches:
        simulator.add_testbench(named(testbench))
    with simulator.write_vcd(vcd) if vcd is not None else nullcontext():
        while not failures and simulator.advance():
            pass

    if failures:
        # The others are suspended in the middle. Ending them here keeps the garbage collector from
        # doing it inside of something else, where their complaints would hide the failure.
        for coroutine in coroutines:
            with suppress(RuntimeError):
                coroutine.close()
        raise failures[0]
    return elapsed
