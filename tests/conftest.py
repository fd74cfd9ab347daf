"""Settings that hold for all tests."""

from hypothesis import settings

# How long one example takes says something about the machine's other work; pytest's timeout ends what hangs.
settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")
