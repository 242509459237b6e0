"""Compute: programs that run on other people's machines. Imports nothing: each WASM program's process begins here."""
