"""Resource kinds of ours and the upstream ones we touch; data only, importable by everyone."""
