"""Who may write, and which process serves the host."""
