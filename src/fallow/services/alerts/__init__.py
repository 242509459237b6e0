"""Tells accounts of their alerts, by mail and webhook."""
