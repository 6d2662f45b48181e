"""What runs out, hangs or costs too much concerns whoever caused it, and nobody else."""
