"""Protocols for what is non-deterministic or outside, and the few helpers that need nothing but them."""
