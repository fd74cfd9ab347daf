"""Files and environment turned into frozen settings, once."""
