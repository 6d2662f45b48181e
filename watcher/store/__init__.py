"""The lease store: sandboxes, their addresses and ports, and failures, in SQLite."""
