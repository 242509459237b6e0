"""What whoever builds on Fallow tests his own part with."""
