"""EVM chains: the machine that the embedded one runs on, its log, and the client of any chain's JSON-RPC."""
