"""One folder per kind of infrastructure, and nothing else."""
