"""The name service, a process of its own: `watcher names`. The service imports nothing of it."""
