"""The machine as a program: a small processor does what has no need of a unit of its own."""
