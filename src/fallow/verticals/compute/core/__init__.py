"""Compute, pure: what a job is, what a receipt says, what it costs."""
