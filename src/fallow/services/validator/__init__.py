"""An independent validator of a network's epochs: see README.md."""
