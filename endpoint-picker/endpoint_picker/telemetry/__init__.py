"""Metrics and logging of the picker; the only owner of metric names."""
