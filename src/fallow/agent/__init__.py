"""What a provider runs: it accepts work, does it, and signs what it did."""
