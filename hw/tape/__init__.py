"""Tape sources and the prefetch FIFO."""
