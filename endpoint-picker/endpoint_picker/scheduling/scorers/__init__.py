"""Scorers: scores in [0, 1], None where nothing is known."""
