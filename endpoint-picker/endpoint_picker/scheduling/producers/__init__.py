"""Producers: per-request facts that scorers share."""
