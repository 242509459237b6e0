"""The buyers' client."""
