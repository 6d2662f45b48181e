"""The log, which nothing waits for."""
