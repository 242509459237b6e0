"""Closing epochs: see README.md."""
