"""The rules, pure: no clock, no I/O, no randomness, integers for money."""
