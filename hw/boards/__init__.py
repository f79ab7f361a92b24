"""Boards: resources, clocks and memory adapters."""
