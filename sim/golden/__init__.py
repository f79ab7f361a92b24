"""The answer, in NumPy: float reference and bit-exact machine."""
