"""Sends transactions of one account, each exactly once."""
