"""A container that runs, shares, moves or vanishes, and what it gets of the watcher meanwhile."""
