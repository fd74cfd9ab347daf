"""Resolved resources to Envoy configuration; pure."""
