"""Trimmed Envoy protobufs and their generated code; for extproc and accesslog only."""
