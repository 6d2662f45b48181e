"""`watcher check CONTAINER`: what stands between a container and whoever wants to reach it."""
