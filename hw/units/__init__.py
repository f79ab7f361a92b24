"""Datapath units, one per file."""
