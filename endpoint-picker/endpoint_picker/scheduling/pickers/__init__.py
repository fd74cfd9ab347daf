"""Pickers: scored endpoints to an ordered list."""
