"""Simulation: golden model, simulated devices, test streams, cocotb benches."""
