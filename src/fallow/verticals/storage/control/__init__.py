"""The network's side: what is where, whom it may be brought to and got from, and what that costs."""
