"""The network's side. Services never import one another, and none of them names a vertical."""
