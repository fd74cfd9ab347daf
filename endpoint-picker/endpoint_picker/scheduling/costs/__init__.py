"""Costs: estimated seconds, None where nothing is known."""
