"""The feed: what the service tells of what happens, to its broker, its readers and the history."""
