"""PostgreSQL and NATS as supervised child processes.

`postgres.EmbeddedPostgres` and `nats.EmbeddedNats` are asynchronous context managers; the rest serves those two.
Every engine runs unprivileged, in its own folder below the data folder, and never outlives the process that
started it, however that one ends.
"""
