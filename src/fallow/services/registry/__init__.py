"""Who takes part: accounts, nodes, keys, join tokens."""
