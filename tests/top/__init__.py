"""`watcher top`: traffic by container on a real terminal, and the terminal afterwards."""
