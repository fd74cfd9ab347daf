"""The ``gateway`` benchmark, a module per part; for `benchmarks.__main__`."""
