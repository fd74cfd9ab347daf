"""The soak: a mixed load and random faults for half an hour, and what clients lose and processes grow by meanwhile."""
