"""Envoy's access-log stream turned into attempts and completed requests."""
