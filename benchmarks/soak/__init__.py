"""Half an hour of mixed load with random faults; run as ``python -m benchmarks soak``."""
