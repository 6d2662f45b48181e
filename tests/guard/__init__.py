"""The guard: a sandbox sends in its own name only, whatever it can do inside."""
