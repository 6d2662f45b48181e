"""The locks: which process may write, and which process serves the host."""
