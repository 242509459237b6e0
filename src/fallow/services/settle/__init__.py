"""Balances, grants and statements."""
