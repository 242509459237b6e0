"""From scores to a root, pure and in integers: schedules, shares, what is held back, the tree under a chain's root."""
