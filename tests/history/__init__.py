"""The history of events, and `watcher events`."""
