"""One module per reader: what must hold for any input, and a generator of inputs that come far."""
