"""Resolved resources to Envoy configuration; pure. For the endpoint picker, the operator and the command line."""
