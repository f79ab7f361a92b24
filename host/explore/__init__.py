"""Exploration: many machines for one model and board, and the best of them."""
