"""L-Mul measured: errors, area and clock, attention. ``terngen lmul`` tells it, ``docs/lmul.md`` keeps it."""
