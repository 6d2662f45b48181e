"""What the runtime, `/proc` and a container's annotations tell."""
