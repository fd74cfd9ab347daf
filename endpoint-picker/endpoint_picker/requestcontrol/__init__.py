"""The director: admit, schedule, settle; ports.py says what it needs from outside."""
