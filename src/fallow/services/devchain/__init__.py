"""The embedded chain: one writer, an append-only log of blocks, JSON-RPC."""
