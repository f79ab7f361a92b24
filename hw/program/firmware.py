"""The program of a machine whose :attr:`~terngen.hw.contract.config.Config.control` is a processor.

It answers the host as :mod:`terngen.hw.contract.regs` says, plays tapes, and does what
:mod:`terngen.sim.golden.machine` says that operations do. It takes the same time whatever the numbers are: where one of
two things is wanted, both are done, or others that take as long.
"""

import functools

from terngen.hw.contract.config import Config
from terngen.hw.program.arithmetic import Arithmetic
from terngen.hw.program.host import Host
from terngen.hw.program.operations import Operations
from terngen.hw.program.player import Player

__all__ = ["firmware"]


class _Firmware(Host, Player, Operations, Arithmetic):
    """Writes the program."""

    def write(self) -> list[int]:
        """The program."""
        self.jmp("Boot")
        self.main()
        self.run()
        self.operations()
        self.check()
        self.arithmetic()
        self.root()
        self.boot()
        return self.assemble()


@functools.cache
def firmware(config: Config) -> list[int]:
    """The program of a machine.

    Raises
    ------
    ValueError
        If it has no room for the buffers.
    """
    config.check_room()
    return _Firmware(config).write()
