"""Fuzzers of everything that reads foreign data; `python -m fuzz` runs them for long, pytest briefly."""
