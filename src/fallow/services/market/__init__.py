"""Offers, orders, leases and windows: who works for whom, at which price."""
