"""A container that runs, shares, leaves or vanishes, and what it gets of the watcher meanwhile."""
