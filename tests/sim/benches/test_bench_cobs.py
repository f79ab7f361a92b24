"""The COBS coders as Verilog."""

from terngen.hw.link.cobs import CobsDecoder, CobsEncoder
from terngen.sim.verilog import run_bench


def test_decoder():
    run_bench(CobsDecoder(), "bench_cobs", tests="decodes")


def test_encoder():
    run_bench(CobsEncoder(), "bench_cobs", tests="encodes")
