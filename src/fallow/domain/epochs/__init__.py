"""Closing an epoch: archived records, what follows from them, and who signs for it. Pure."""
