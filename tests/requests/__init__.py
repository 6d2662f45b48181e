"""What containers ask for by annotations, and what cannot be asked for."""
