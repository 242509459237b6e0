"""The data plane's wire protocol, version 1, without I/O: frames, a multiplexer of streams, the greeting."""
