"""Filters: which endpoints stay candidates."""
