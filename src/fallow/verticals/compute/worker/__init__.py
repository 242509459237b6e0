"""Compute on the provider's machine."""
