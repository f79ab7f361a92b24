"""Transports to boards."""
