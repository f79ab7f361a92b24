"""A simulated board behind a pseudo-terminal, which programs open like a serial port."""

import os
import select
import tty

from terngen.sim.compiled import CompiledModel

__all__ = ["PtyBoard"]


class PtyBoard:
    """Carries octets between a compiled board and a pseudo-terminal.

    The clock of the board runs while there is something to do: octets come or go, or have within the last
    `quiet` cycles. Otherwise time stands still until the next octet.

    Parameters
    ----------
    model : :class:`CompiledModel`
        With the other end of the board's serial port as its link.
    quiet : :class:`int`
        More cycles than a step of the machine takes.

    Members
    -------
    path : :class:`str`
        Device file to be opened.
    """

    #: Cycles between two looks at the terminal, and octets that are taken from it at once.
    BATCH_CYCLES, BATCH_OCTETS = 1 << 12, 4096

    def __init__(self, model: CompiledModel, *, quiet: int):
        self._model, self._quiet = model, quiet
        # The other end stays open here as well, so that programs may come and go.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path     = os.ttyname(self._slave)
        self._waiting = b""             # for the board to take
        self._given   = b""             # for the terminal to take
        self._silent  = quiet           # cycles without an octet either way

    def turn(self, timeout: float) -> None:
        """Carry what there is to carry, and let the board run for a while; wait at most `timeout` seconds for
        something to happen if there is nothing to do."""
        idle = self._silent >= self._quiet and not self._waiting
        readable, writable, _ = select.select(
            [] if self._waiting else [self._master], [self._master] if self._given else [], [], timeout if idle else 0)
        if readable:
            self._waiting = os.read(self._master, self.BATCH_OCTETS)
        if self._waiting or not idle:
            # A terminal holds little: what nobody reads waits in the board, as long as that has room.
            # Wanting more than there is time for, so that the clock runs all of it.
            consumed, answers = self._model.run(self._waiting, want=self.BATCH_CYCLES, max_cycles=self.BATCH_CYCLES)
            self._waiting = self._waiting[consumed:]
            self._given  += answers
            self._silent  = 0 if consumed or answers else self._silent + self.BATCH_CYCLES
        if writable or self._given and select.select([], [self._master], [], 0)[1]:
            written     = os.write(self._master, self._given)
            self._given = self._given[written:]

    def close(self) -> None:
        """Hang up."""
        for end in (self._slave, self._master):
            os.close(end)
