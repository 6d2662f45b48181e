"""Kernel events: signals that a container, a root or the host may have changed."""
