"""Relays streams between those who open them and nodes that nobody can reach from outside."""
