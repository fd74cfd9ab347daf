"""``igw demo``: a live tour of the gateway on simulated model servers; only the command line imports it."""
