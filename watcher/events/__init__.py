"""What makes one look again: at a container, a root, the host."""
