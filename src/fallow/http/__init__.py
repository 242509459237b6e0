"""The control API and server-sent events."""
