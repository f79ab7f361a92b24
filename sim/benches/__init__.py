"""cocotb benches of the generated Verilog, one module `bench_<unit>.py` per unit.

A bench runs inside the simulator and knows the design only by its ports::

    @cocotb.test(timeout_time=100, timeout_unit="us")
    @cocotb.parametrize(i_stall=[0, 0.4], o_stall=[0, 0.4])
    async def keeps_order(dut, i_stall, o_stall):
        rng = random.Random(int(os.environ["SEED"]))
        source = Source(dut, "i", stall=lambda: rng.random() < i_stall)
        sink = Sink(dut, "o", stall=lambda: rng.random() < o_stall)
        ...

The test beside it builds the component and runs the bench. It lives in a file of its own,
`tests/sim/benches/test_bench_<unit>.py`::

    @pytest.mark.parametrize("depth", [2, 5])
    def test_fifo(depth):
        run_bench(Fifo(width=20, depth=depth), "bench_fifo", env={"DEPTH": depth})

What the bench must know about the component travels as text in `env`. Many tests in one bench cost
one start of the simulator, so group them.
"""
