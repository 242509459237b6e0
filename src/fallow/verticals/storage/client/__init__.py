"""Objects as their owner sees them: sealed, cut and coded here, and brought to nodes and back."""
