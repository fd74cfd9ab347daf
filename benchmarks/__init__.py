"""Measurements of the running gateway: ``python -m benchmarks NAME``; nothing else may import it."""
