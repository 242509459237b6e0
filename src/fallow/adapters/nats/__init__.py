"""NATS behind the bus port, and the check of who may connect."""
