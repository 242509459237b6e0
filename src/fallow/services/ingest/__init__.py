"""The door for signed records."""
