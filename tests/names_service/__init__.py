"""`watcher names` as a whole: real containers that ask it, its sockets, restarts and reloads."""
