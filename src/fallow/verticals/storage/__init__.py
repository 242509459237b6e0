"""Object storage on spare disks: encrypted by the buyer, erasure-coded over many owners' nodes."""
