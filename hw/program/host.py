"""What the program has for the host: registers, the tape and its check."""

from terngen.hw.contract import regs
from terngen.hw.contract.regs import Reg
from terngen.hw.program.assembler import number, pointer
from terngen.hw.program.ports import In, Out
from terngen.hw.program.routines import EVEN, HISTORY, NEGATIVE, NOT_NEGATIVE, NOT_ZERO, REGISTERS, ZERO, Routines

__all__ = ["Host"]

#: What a CRC-32 is divided by, reflected.
_POLYNOMIAL = 0xEDB88320


class Host(Routines):
    """Reads, writes and checks, one after the other, until there is a run."""

    def main(self) -> None:
        config = self._config
        self.label("Ignore")
        self.out(Out.DONE)
        self.label("Main")
        self.in_(In.ADDRESS)
        self.keep("address")
        self.in_(In.WRITE)
        self.branch(ZERO, "Write")

        self.ld("address.1")
        self.branch(NOT_ZERO, "Read register")
        self.sub(self.constant(regs.SUMS_BASE >> 16))
        self.branch(NEGATIVE, "Read sum")
        self.ld("address.1")
        self.sub(self.constant(regs.HISTORY_BASE >> 16))
        self.branch(NEGATIVE, "Read history")
        self.label("Nothing")
        self.ld(number(0))
        self.label("Answer")
        self.out(Out.ANSWER)
        self.jmp("Main")

        self.label("Read register")
        self.ld("address.0")
        self.sub(self.constant(0x100))
        self.branch(NEGATIVE, "Read result")
        self.ld("address.0")
        self.shr()
        self.add(self.constant(REGISTERS))
        self.label("Pair")
        self.out(Out.POINTER)
        self.ld(pointer(moves=True))
        self.addh(pointer())
        self.jmp("Answer")
        self.label("Read result")
        self.ld("address.0")
        self.sub(self.constant(regs.RESULT_BASE))
        self.branch(NOT_NEGATIVE, "Nothing")
        self.sub(number(12))
        self.branch(NEGATIVE, "Nothing")
        self.add(number(12))
        self.shr()
        self.add(self.constant(self.place("RESULT.0")))
        self.jmp("Pair")

        self.label("Read sum")
        self.ld("address.0")
        self.shr()
        self.shr()
        self.out(Out.INDEX)
        self.ld(number(0))          # the sum is not there yet
        self.in_(In.SUM)
        self.jmp("Answer")

        self.label("Read history")
        self.ld("address.0")
        for _ in range(2 + config.slot_bits):
            self.shr()
        self.st("t")
        self.sub("DONE.0")
        self.branch(NEGATIVE, "No token")
        self.ld("t")
        self.add(self.constant(HISTORY << 8))
        self.out(Out.POINTER)
        self.ld(pointer())
        self.sub(self.constant(0xFFFF))
        self.branch(NOT_ZERO, "No token")
        self.ld(pointer())
        self.jmp("Answer")
        self.label("No token")
        self.ld(self.constant(0xFFFF))
        self.addh(self.constant(0xFFFF))
        self.jmp("Answer")

        self.label("Write")
        self.ld("address.1")
        self.and_(self.constant(regs.TAPE_BASE >> 16))
        self.branch(ZERO, "Load")
        self.ld("address.1")
        self.branch(ZERO, "Ignore")
        for register, target in ((Reg.GO.value, "Go"), (Reg.CHECK.value, "Check"), (regs.token_address(0), "Set")):
            self.ld("address.0")
            self.sub(number(register))
            self.branch(NOT_ZERO, target)
        self.ld("address.0")
        self.sub(number(Reg.MASK.value))
        self.branch(NOT_NEGATIVE, "Ignore")
        self.sub(number(Reg.GO.value - Reg.MASK.value))
        self.branch(NEGATIVE, "Ignore")
        self.label("Set")
        self.ld("address.0")
        self.shr()
        self.add(self.constant(REGISTERS))
        self.out(Out.POINTER)
        self.in_(In.DATA)
        self.st(pointer(moves=True))
        self.sth(pointer())
        self.jmp("Ignore")

        self.label("Load")
        for half in range(2):
            self.long("address")
            self.subh(self.constant(regs.TAPE_BASE >> 16))
            self.shr()
            self.add(number(half))
            self.out(Out.PLACE)
            self.in_(In.DATA)
            if half:
                self.shr8()
                self.shr8()
            self.out(Out.LOAD)
        self.jmp("Ignore")


    def check(self) -> None:
        self.label("Check")
        self.out(Out.DONE)
        self.long("PLAY_START")
        self.out(Out.START)
        self.long("PLAY_COUNT")
        self.keep("rest")
        self.skip(ZERO)
        self.out(Out.COUNT)
        self.ld(self.constant(0xFFFF))
        self.st("CRC.0")
        self.st("CRC.1")
        self.ld(number(16))
        self.out(Out.END)
        self.label("Check beat")
        self.long("rest")
        self.branch(NOT_ZERO, "Checked")
        self.sub(number(1))
        self.keep("rest")
        self.begin()
        self.in_(In.BEAT)
        self.xor("CRC.0")
        self.xorh("CRC.1")
        self.label("Check bit")
        # What is divided by, shifted out of the accumulator's 32 bits: one bit of it is added.
        self.skip(EVEN, 4)
        self.xor(self.constant(_POLYNOMIAL << 1 | 1))
        self.xorh(self.constant(_POLYNOMIAL << 1 >> 16))
        self.addh(self.constant(1 << 15))
        self.addh(self.constant(1 << 15))
        self.shr()
        self.loop("Check bit")
        self.keep("CRC")
        self.jmp("Check beat")
        self.label("Checked")
        self.long("CRC")
        self.xor(self.constant(0xFFFF))
        self.xorh(self.constant(0xFFFF))
        self.keep("CRC")
        self.jmp("Main")

    def boot(self) -> None:
        config, fmt = self._config, self._fmt
        self.label("Boot")
        values = {
            "MAGIC.0": regs.MAGIC & 0xFFFF, "MAGIC.1": regs.MAGIC >> 16, "VERSION.0": regs.VERSION,
            "STOP.0": 0xFFFF, "STOP.1": 0xFFFF, "RESULT.2": 0xFFFF, "RESULT.3": 0xFFFF,
            "RESULT.4": -(1 << config.acc_width - 1) & 0xFFFF, "RESULT.5": 0xFFFF,
            "SIGN": 1 << fmt.width - 1, "ONE": fmt.one, "TABLE": self.address("Table"),
            **{f"DIGEST.{place // 2}": int.from_bytes(config.digest[place:place + 2], "little")
               for place in range(0, 16, 2)},
        }
        self.ld(number(0))
        self.out(Out.POINTER)
        self.out(Out.BUSY)
        self.out(Out.INDEX)
        self.out(Out.END)
        self.label("Clear")
        self.ld(number(0))
        self.st(pointer(moves=True))
        self.st(pointer(moves=True))
        self.loop("Clear")
        for name, value in self.constants.items():
            values[name] = value
        for name, value in values.items():
            self.load(value)
            self.st(name)
        self.jmp("Main")
