"""The sequencer and what it needs."""
