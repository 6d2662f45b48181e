"""The log. Nothing in the service waits for its reader."""
