"""Vendor primitives, each beside a portable version."""
